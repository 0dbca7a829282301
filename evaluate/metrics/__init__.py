"""The metrics as formulas, and the statistics of their certainty."""
