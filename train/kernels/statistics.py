"""Sums over the positions of a map, channels last, in float32 and in two stages of fixed order, without atomics.

First each program sums a chunk of one picture's positions, then one kernel merges the chunks. A mean of many standard
deviations does not cancel: lanes of a program update a mean and a sum of squares about it (Welford), which are merged
by Chan's formula. Source: Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, 1983.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

VALUES = 2048  # of a program at a time: 16 for each of 128 threads, so that several programs share a multiprocessor
PROGRAMS = 1024  # eight for each multiprocessor of a large card, so that enough reads are under way
MOST_CHANNELS = 64  # of a program
MERGED_CHANNELS = 16  # of a program that merges chunks
MERGED_CHUNKS = 512  # that it reads at a time
MERGING_WARPS = 8
ROUNDING = tl.constexpr(2**-8)  # train/networks/norms.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """How the positions of a batch of maps are summed."""

    grid: tuple[int, int, int]
    """Chunks of a picture; pieces of the channels; pictures."""
    steps: int
    """Times that a program reads `rows` positions."""
    rows: int
    columns: int
    """Channels of a piece; both are powers of two."""

    @property
    def size(self) -> int:
        """Positions of a chunk; the last one may have fewer."""
        return self.steps * self.rows


def chunks(batch: int, channels: int, positions: int) -> Chunks:
    """The chunks for maps of this shape, from the shape alone, so that sums are always taken in the same order.

    >>> chunks(1, 64, 512 * 512)
    Chunks(grid=(1024, 1, 1), steps=8, rows=32, columns=64)
    >>> chunks(3, 193, 33 * 20)
    Chunks(grid=(21, 4, 3), steps=1, rows=32, columns=64)
    """
    columns = min(triton.next_power_of_2(channels), MOST_CHANNELS)
    rows, pieces = VALUES // columns, triton.cdiv(channels, columns)
    wanted = max(1, PROGRAMS // (batch * pieces))  # chunks of a picture
    steps = triton.cdiv(triton.cdiv(positions, rows), wanted)
    return Chunks(grid=(triton.cdiv(positions, steps * rows), pieces, batch), steps=steps, rows=rows, columns=columns)


def statistics(x: Tensor, epsilon: float, *, shared: bool, left_out: Tensor | None = None) -> Tensor:
    """Mean, inverse deviation and unbiased variance of each channel of a channels-last map, float32 [3,G,C].

    G is 1 if all pictures of the batch share them, else B. The inverse is 1 / sqrt(biased variance + epsilon), and 0
    where the variance is rounding, of a mean that would be higher by what was left out, [C].
    """
    batch, channels, height, width = x.shape
    cut = chunks(batch, channels, height * width)
    count, groups = cut.grid[0], 1 if shared else batch
    partial = torch.empty(batch, count, 2, channels, dtype=torch.float32, device=x.device)
    _moments[cut.grid](x, partial, height * width, channels, cut.steps, cut.rows, cut.columns)
    made = torch.empty(3, groups, channels, dtype=torch.float32, device=x.device)
    numbers = batch // groups * count  # of chunks of a group
    _merge_moments[triton.cdiv(channels, MERGED_CHANNELS), groups](
        partial, left_out, made, numbers, count, cut.size, height * width, channels, epsilon,
        _block(numbers), MERGED_CHANNELS, num_warps=MERGING_WARPS,
    )  # fmt: skip
    return made


def merge_sums(partial: Tensor, *, shared: bool) -> tuple[Tensor, Tensor]:
    """Two sums of each channel, [2,G,C], from those of chunks, [B,K,2,C]; and these over all pictures, and 0, [3,C]."""
    batch, count, _, channels = partial.shape
    groups = 1 if shared else batch
    sums = partial.new_empty(2, groups, channels)
    totals = partial.new_empty(3, channels)
    numbers = batch // groups * count
    _merge_sums[triton.cdiv(channels, MERGED_CHANNELS),](
        partial, sums, totals, groups, numbers, channels, _block(numbers), MERGED_CHANNELS, num_warps=MERGING_WARPS
    )
    return sums, totals


def _block(numbers: int) -> int:
    block: int = min(triton.next_power_of_2(numbers), MERGED_CHUNKS)
    return block


@triton.jit
def _moments(x, partial, positions, channels, steps, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Mean and sum of squares about it of each channel of a chunk."""
    picture = tl.program_id(2).to(tl.int64)
    first = tl.program_id(0) * steps * ROWS
    row = tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    source = x + picture * positions * channels + column
    mean = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    squares = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    count = tl.zeros((ROWS, 1), dtype=tl.float32)
    for step in range(steps):
        position = first + step * ROWS + row
        there = position < positions
        value = tl.load(source + position.to(tl.int64) * channels, mask=there & (column < channels), other=0.0)
        value = value.to(tl.float32)
        change = tl.where(there, value - mean, 0.0)
        mean += change / (step + 1)
        squares += change * (value - mean)
        count += tl.where(there, 1.0, 0.0)
    centre = tl.sum(mean * count, axis=0)[None, :] / tl.sum(count, axis=0)[None, :]
    spread = tl.sum(squares + count * (mean - centre) * (mean - centre), axis=0)[None, :]
    place = partial + (picture * tl.num_programs(0) + tl.program_id(0)) * 2 * channels + column
    tl.store(place, centre, mask=column < channels)
    tl.store(place + channels, spread, mask=column < channels)


@triton.jit
def _merge_moments(
    partial,
    left_out,
    made,
    numbers,
    chunks,
    size,
    positions,
    channels,
    epsilon,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The chunks of a group; `numbers` of them, `chunks` of each picture, `size` positions but for the last one."""
    group = tl.program_id(1).to(tl.int64)
    row = tl.arange(0, BLOCK)[:, None]
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = column < channels
    source = partial + group * numbers * 2 * channels + column
    total = (numbers // chunks) * (positions * 1.0)
    summed = tl.zeros((BLOCK, COLUMNS), dtype=tl.float32)
    for first in range(0, numbers, BLOCK):
        number = first + row
        count = tl.where(number < numbers, tl.minimum(positions - number % chunks * size, size), 0).to(tl.float32)
        mean = tl.load(source + number.to(tl.int64) * 2 * channels, mask=(number < numbers) & inside, other=0.0)
        summed += count * mean
    centre = tl.sum(summed, axis=0)[None, :] / total
    spread = tl.zeros((BLOCK, COLUMNS), dtype=tl.float32)
    for first in range(0, numbers, BLOCK):
        number = first + row
        count = tl.where(number < numbers, tl.minimum(positions - number % chunks * size, size), 0).to(tl.float32)
        place = source + number.to(tl.int64) * 2 * channels
        mean = tl.load(place, mask=(number < numbers) & inside, other=0.0)
        squares = tl.load(place + channels, mask=(number < numbers) & inside, other=0.0)
        spread += squares + count * (mean - centre) * (mean - centre)
    squared = tl.sum(spread, axis=0)[None, :]
    unbiased = squared / (total - 1.0)
    whole = centre
    if left_out is not None:
        whole += tl.load(left_out + column, mask=inside).to(tl.float32)
    flat = unbiased <= (ROUNDING * whole) * (ROUNDING * whole)
    place = made + group * channels + column
    plane = tl.num_programs(1) * channels
    tl.store(place, centre, mask=inside)
    tl.store(place + plane, tl.where(flat, 0.0, tl.rsqrt(squared / total + epsilon)), mask=inside)
    tl.store(place + 2 * plane, unbiased, mask=inside)


@triton.jit
def _merge_sums(partial, sums, totals, groups, numbers, channels, BLOCK: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.arange(0, BLOCK)[:, None]
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = column < channels
    for which in tl.static_range(2):
        total = tl.zeros((1, COLUMNS), dtype=tl.float32)
        for group in range(groups):
            summed = tl.zeros((BLOCK, COLUMNS), dtype=tl.float32)
            for first in range(0, numbers, BLOCK):
                number = first + row
                place = partial + ((group * numbers + number).to(tl.int64) * 2 + which) * channels + column
                summed += tl.load(place, mask=(number < numbers) & inside, other=0.0)
            found = tl.sum(summed, axis=0)[None, :]
            tl.store(sums + (which * groups + group) * channels + column, found, mask=inside)
            total += found
        tl.store(totals + which * channels + column, total, mask=inside)
    tl.store(totals + 2 * channels + column, tl.zeros((1, COLUMNS), dtype=tl.float32), mask=inside)
