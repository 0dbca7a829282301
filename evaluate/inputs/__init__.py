"""Which pictures are compared: predictions, real pictures, baselines."""
