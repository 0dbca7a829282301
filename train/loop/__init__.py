"""The training loop, and one optimisation step."""
