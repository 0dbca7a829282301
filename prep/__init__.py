"""Preparation: makes a multi-magnification store from pairs of tiles."""
