"""Tiles that share pixels: where tiles lie by their names, which overlap, and which slides therefore stay together."""
