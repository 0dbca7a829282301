"""Pictures and slides through a trained generator."""
