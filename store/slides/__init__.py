"""Pictures of any size: read in parts, written tile by tile."""
