"""From the store to a batch: which pictures a step reads, and how they reach the device."""
