"""The synthetic data set: tissue that is drawn, for trying everything out."""
