"""Which slides are in which part of the store."""
