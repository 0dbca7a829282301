"""Published checkpoints become finished runs."""
