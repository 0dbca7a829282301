"""Hostile input: valid files that were changed by somebody who knows the format, under checksums that are right."""
