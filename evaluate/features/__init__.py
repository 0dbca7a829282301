"""Feature networks, and the features that they compute from pictures."""
