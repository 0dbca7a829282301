"""Kernels of the contrastive losses: patches of feature maps, their projections and how they are compared."""
