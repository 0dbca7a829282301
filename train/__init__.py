"""Training: a store in, a run folder with networks and translated pictures out."""
