"""What a run writes into its folder: checkpoints, metrics, samples, the generator and its model card."""
