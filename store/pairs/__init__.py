"""The rows of a store: which tiles belong together, and which were skipped."""
