"""Metrics as formulas, and the intervals of their numbers."""
