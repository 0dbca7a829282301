"""TIFF files in parts: which pictures are in one, where their segments are, and how these are decoded."""
