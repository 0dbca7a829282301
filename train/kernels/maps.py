"""How the kernels see feature maps: [B,C,H,W] with channels fastest, one program for a piece of one row.

The place of a row is computed once in a program, in 64 bits, so that maps of over 2^31 values are safe; within a row 32
bits are enough. Neighbouring threads read neighbouring channels, then neighbouring columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

VALUES = 2048  # of one program: 16 for each of 128 threads
MOST_CHANNELS = 128  # of one program


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """How a map is cut into programs."""

    grid: tuple[int, int, int]
    """All rows of all pictures; pieces of a row; pieces of the channels."""
    columns: int
    """Columns of a piece, a power of two."""
    channels: int
    """Channels of a piece, a power of two."""


def cut(batch: int, channels: int, height: int, width: int) -> Pieces:
    """The programs for a map of this shape, from the shape alone, so that it is always cut alike.

    >>> cut(1, 64, 512, 512)
    Pieces(grid=(512, 16, 1), columns=32, channels=64)
    >>> cut(2, 3, 512, 512)
    Pieces(grid=(1024, 1, 1), columns=512, channels=4)
    """
    side = min(triton.next_power_of_2(channels), MOST_CHANNELS)
    columns = min(triton.next_power_of_2(width), VALUES // side)
    grid = (batch * height, triton.cdiv(width, columns), triton.cdiv(channels, side))
    return Pieces(grid=grid, columns=columns, channels=side)


def channels_last(x: Tensor) -> Tensor:
    """`x` [B,C,H,W] with channels fastest and nothing between its values: itself if it is so already."""
    return x.contiguous(memory_format=torch.channels_last)


def empty_like(x: Tensor, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    """A map of the batch, channels, device and dtype (unless another is given) of `x`, not yet written."""
    shape = (x.shape[0], x.shape[1], height, width)
    return torch.empty(shape, dtype=dtype or x.dtype, device=x.device, memory_format=torch.channels_last)


@triton.jit
def row_of(maps, row, width, channels):
    """Where a row of `maps` begins; rows of all pictures are counted on."""
    return maps + row.to(tl.int64) * (width * channels)


@triton.jit
def columns_of(width, COLUMNS: tl.constexpr):
    """The columns of this program [COLUMNS,1], and which of them exist."""
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[:, None]
    return column, column < width


@triton.jit
def channels_of(channels, CHANNELS: tl.constexpr):
    """The channels of this program [1,CHANNELS], and which of them exist."""
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    return channel, channel < channels


@triton.jit
def reflected(place, side):
    """The pixel that lies at a place outside by less than `side`: -1 is 1, and `side` is `side` - 2."""
    place = tl.abs(place)
    return tl.minimum(place, 2 * (side - 1) - place)
