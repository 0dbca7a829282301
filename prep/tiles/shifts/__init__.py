"""What measured shifts do to the pairs of a table: which are left out, and where the tiles are cut."""
