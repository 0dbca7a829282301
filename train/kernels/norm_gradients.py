"""The gradients of a norm and of what follows it, in two readings of the map and of the incoming gradient.

The first sums, the second takes from each value of the gradient its mean and its part along the normalised map. Of the
activation nothing is kept: its sign is computed again, by the formula of `norms.py`. The gradient of a padded map
is folded while it is read: each value from the up to nine places that it went to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from train.kernels.maps import MOST_CHANNELS, VALUES, empty_like
from train.kernels.padding import went_to
from train.kernels.statistics import chunks, merge_sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """A norm and what follows it."""

    epsilon: float = 0.0
    shared: bool = False
    """Whether the pictures of a batch share their statistics, as in batch norm."""
    slope: float = 1.0
    """Of values below 0: 0 is ReLU, 1 no activation."""
    margin: int = 0
    """Of the reflection padding, px."""


def differentiate(
    saved: tuple[Tensor, ...],
    fused: Fused,
    gradient: Tensor,
    margin: int,
    inner: Tensor | None = None,
    summed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The gradient of the map, and of bias, weight and a bias before the norm, [3,C].

    saved: map, statistics, weight, bias. gradient: of the result, padded by `margin`; `inner`: of its inner part. The
    gradient of the residual, if there is one, is written into `summed`.
    """
    x, found, weight, bias = saved
    batch, channels, height, width = x.shape
    sums, totals = _summed(x, found, weight, bias, fused, gradient, margin, inner, summed)
    if summed is not None:
        gradient, margin = summed, 0
    made = empty_like(x, height, width)
    grid, rows, columns = tiles(made, VALUES // 2 if margin else VALUES)
    _spread[grid](
        gradient, x, found, sums, weight, bias, made, height, width, channels, *steps_of(found, fused),
        height * width * (batch if fused.shared else 1), fused.slope, margin, rows, columns,
    )  # fmt: skip
    return made, totals


def differentiate_activation(x: Tensor, bias: Tensor, fused: Fused, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of map and bias from that of the activated sum, padded, in one reading."""
    made = empty_like(x, *x.shape[2:])
    return made, _summed(x, None, None, bias, fused, gradient, fused.margin, None, made)[1][0]


def _summed(
    x: Tensor,
    found: Tensor | None,
    weight: Tensor | None,
    bias: Tensor,
    fused: Fused,
    gradient: Tensor,
    margin: int,
    inner: Tensor | None,
    summed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """What `_sum` writes, with its chunks merged."""
    batch, channels, height, width = x.shape
    cut = chunks(batch, channels, height * width)
    partial = torch.empty(batch, cut.grid[0], 2, channels, dtype=torch.float32, device=x.device)
    finer = 2 if margin else 1  # a gradient that is folded from nine places takes more registers
    _sum[cut.grid](
        gradient, inner, summed, x, found, weight, bias, partial, height, width, channels, *steps_of(found, fused),
        finer * cut.steps, fused.slope, margin, cut.rows // finer, cut.columns,
    )  # fmt: skip
    return merge_sums(partial, shared=fused.shared)


def steps_of(found: Tensor | None, fused: Fused) -> tuple[int, int]:
    """From one picture's statistics [3,G,C] to the next one's, and from the means to the inverse deviations."""
    if found is None:
        return 0, 0
    return 0 if fused.shared else found.shape[2], found.stride(0)


def tiles(x: Tensor, values: int = VALUES) -> tuple[tuple[int, int, int], int, int]:
    """Pieces of the positions, of the channels, and pictures; positions and channels of a piece of `values`."""
    batch, channels, height, width = x.shape
    columns = min(triton.next_power_of_2(channels), MOST_CHANNELS)
    rows = values // columns
    return (triton.cdiv(height * width, rows), triton.cdiv(channels, columns), batch), rows, columns


@triton.jit
def affine(found, weight, bias, own, plane, column, inside):
    """Mean and inverse deviation; what the distance to the mean is multiplied by, and shifted by then."""
    shift = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    if found is None:
        mean, inverse, scale = 0.0, 1.0, 1.0
    else:
        mean = tl.load(found + own, mask=inside, other=0.0)
        inverse = tl.load(found + own + plane, mask=inside, other=0.0)
        scale = inverse * tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    return mean, inverse, scale, shift


@triton.jit
def _folded(gradient, picture, first, position, last, column, mask, height, width, channels, margin: tl.constexpr):
    """The gradient at positions `first` to `last`, from that of the padded map."""
    if margin == 0:
        place = (picture * height * width + position) * channels
        return tl.load(gradient + place + column, mask=mask, other=0.0).to(tl.float32)
    total = tl.zeros(mask.shape, dtype=tl.float32)
    padded_width = width + 2 * margin
    source = gradient + picture * (height + 2 * margin) * padded_width * channels
    for vertical in tl.static_range(3):
        near = vertical == 0
        if vertical == 1:
            near = first // width <= margin
        if vertical == 2:
            near = last // width >= height - 1 - margin
        if near:
            there, down = went_to(position // width, height, margin, vertical)
            for horizontal in tl.static_range(3):
                across, also = went_to(position % width, width, margin, horizontal)
                place = (there.to(tl.int64) * padded_width + across) * channels
                total += tl.load(source + place + column, mask=mask & down & also, other=0.0).to(tl.float32)
    return total


@triton.jit
def _sum(
    gradient, inner, summed, x, found, weight, bias, partial, height, width, channels, group_step, plane, steps,
    slope: tl.constexpr, margin: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Of each chunk the sums of the gradient before the activation, and of its product with the normalised map."""
    picture = tl.program_id(2).to(tl.int64)
    area = height * width
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = column < channels
    mean, inverse, scale, shift = affine(found, weight, bias, picture * group_step + column, plane, column, inside)
    plain = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    product = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for step in range(steps):
        first = (tl.program_id(0) * steps + step) * ROWS
        position = first + tl.arange(0, ROWS)[:, None]
        mask = (position < area) & (column < channels)
        place = (picture * area + position) * channels + column
        value = tl.load(x + place, mask=mask, other=0.0).to(tl.float32) - mean
        slopes = _folded(
            gradient, picture, first, position, first + ROWS - 1, column, mask, height, width, channels, margin
        )
        if inner is not None:
            slopes += tl.load(inner + place, mask=mask, other=0.0).to(tl.float32)
        if slope != 1.0:
            slopes = tl.where(value * scale + shift > 0.0, slopes, slopes * slope)
        if summed is not None:
            tl.store(summed + place, slopes.to(summed.dtype.element_ty), mask=mask)
        plain += slopes
        product += slopes * (value * inverse)
    place = partial + (picture * tl.num_programs(0) + tl.program_id(0)) * 2 * channels + column
    tl.store(place, tl.sum(plain, axis=0)[None, :], mask=column < channels)
    tl.store(place + channels, tl.sum(product, axis=0)[None, :], mask=column < channels)


@triton.jit
def _spread(
    gradient, x, found, sums, weight, bias, made, height, width, channels, group_step, plane, count,
    slope: tl.constexpr, margin: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient of the map: without its mean and without its part along the normalised map."""
    picture = tl.program_id(2).to(tl.int64)
    first = tl.program_id(0) * ROWS
    position = first + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = column < channels
    mask = (position < height * width) & inside
    own = picture * group_step + column
    mean, inverse, scale, shift = affine(found, weight, bias, own, plane, column, inside)
    average = tl.load(sums + own, mask=inside) / count
    along = tl.load(sums + own + plane, mask=inside) / count
    place = (picture * height * width + position) * channels + column
    value = tl.load(x + place, mask=mask, other=0.0).to(tl.float32) - mean
    slopes = _folded(
        gradient, picture, first, position, first + ROWS - 1, column, mask, height, width, channels, margin
    )
    if slope != 1.0:
        slopes = tl.where(value * scale + shift > 0.0, slopes, slopes * slope)
    result = scale * (slopes - average - value * inverse * along)
    tl.store(made + place, result.to(made.dtype.element_ty), mask=mask)
