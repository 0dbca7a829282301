"""Preparation: picture tiles in, a multi-magnification store out."""
