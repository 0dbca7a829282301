"""The synthetic data set: drawn tissue, to try the toolkit without data."""
