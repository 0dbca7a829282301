"""From pictures to scores: gather images, extract features, compute metrics."""
