"""The store: what a prepared data set looks like on disk, and how it is written, read and checked."""
