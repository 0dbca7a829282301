"""A store from tiles: settings are settled, pairs are checked and planned, then units are built one by one."""
