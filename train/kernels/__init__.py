"""Fused kernels in Triton for CUDA: each computes what a plain twin in `train/networks` or `train/losses` computes."""
