"""What a run leaves in its folder: checkpoints, metrics, samples, the generator and its model card."""
