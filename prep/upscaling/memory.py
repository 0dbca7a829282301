"""How many windows a GPU enlarges at once: by the memory that is free, from what the network keeps of a window."""

from __future__ import annotations

import torch

from prep.settings import BATCH, Device, Kernels

MOST = 16  # of a batch: more is not faster (prep/README.md)
SHARE = 0.5  # of the free memory; the rest is for workspaces of cuDNN and what the allocator cannot use again
FACTORS = (2, 4)
CHANNELS, GROWN = 64, 128  # of a feature map, and what a dense block appends to it
FP32 = 4  # bytes


def best_batch(view_side: int, margin: int, dtype: torch.dtype, kernels: Kernels, device: Device) -> int:
    """Windows a batch for both factors, a power of 2; decided once for a store, because bytes may depend on it."""
    if device is Device.CPU:
        return BATCH
    if kernels is Kernels.SINGLE:
        return 1
    free, _ = torch.cuda.mem_get_info()
    return fitting_batch(free, view_side, margin, dtype)


def fitting_batch(free: int, view_side: int, margin: int, dtype: torch.dtype) -> int:
    """The largest power of 2 up to `MOST` whose windows take at most `SHARE` of `free` bytes; at least 1."""
    largest = max(bytes_of_window(view_side // factor + 2 * margin, factor, dtype) for factor in FACTORS)
    fitting = int(SHARE * free) // largest
    return 1 << (max(1, min(MOST, fitting)).bit_length() - 1)


def bytes_of_window(side: int, factor: int, dtype: torch.dtype) -> int:
    """The most that the network holds at once of a window of side x side px: in a dense block, or in the last layers.

    In a dense block these are three fp32 sums and, while a concatenation is made, its parts and its result. At the end
    these are two fp32 sums of the side of the window, and of the side of the result two maps and an fp32 copy of one of
    them, in fp32 instead the map before the last upsampling, of a quarter of the area.
    """
    size = dtype.itemsize
    dense = 3 * CHANNELS * FP32 + 2 * (CHANNELS + GROWN) * size
    third = FP32 // 4 if dtype is torch.float32 else FP32
    last = 2 * CHANNELS * FP32 + factor**2 * CHANNELS * (2 * size + third)
    return side**2 * max(dense, last)
