"""Which pictures belong together, and whether they are sound: layouts, pairs, slides, splits, checks."""
