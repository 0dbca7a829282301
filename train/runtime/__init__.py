"""What a run computes on: device, precision, processes, background work."""
