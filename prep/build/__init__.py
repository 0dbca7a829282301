"""A store from tiles: planned, checked, then built unit by unit, in this process or on a cluster."""
