"""From a map and its statistics to the normalised map, scaled, shifted, activated, added to a residual and padded."""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from train.kernels.maps import MOST_CHANNELS, VALUES, empty_like, reflected


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


def write(
    x: Tensor, found: Tensor | None, weight: Tensor | None, bias: Tensor, residual: Tensor | None, fused: Fused
) -> Tensor:
    """The result, padded, from a map and its statistics; without these the map is only shifted by `bias`."""
    channels, height, width = x.shape[1:]
    margin = fused.margin
    assert margin < min(height, width), f"a margin of {margin} px mirrors more than the sides {height} x {width} px"
    made = empty_like(x, height + 2 * margin, width + 2 * margin)
    strides = (0, 0, 0) if residual is None else (residual.stride(0), residual.stride(2), residual.stride(3))
    grid, rows, columns = tiles(made)
    _normalise[grid](
        x, found, weight, bias, x if residual is None else residual, made, *strides, height, width, channels,
        *steps_of(found, fused), residual is not None, fused.slope, margin, rows, columns,
    )  # fmt: skip
    return made


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
def _activated(value, slope: tl.constexpr):
    """ReLU must not multiply: 0 times infinity is no number."""
    if slope == 0.0:
        return tl.where(value < 0.0, 0.0, value)
    return tl.where(value < 0.0, value * slope, value)


@triton.jit
def _normalise(
    x, found, weight, bias, residual, made, picture_step, row_step, column_step, height, width, channels, group_step,
    plane, ADD: tl.constexpr, slope: tl.constexpr, margin: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    picture = tl.program_id(2).to(tl.int64)
    position = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]  # in the padded result
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    padded_width = width + 2 * margin
    area = (height + 2 * margin) * padded_width
    mask = (position < area) & (column < channels)
    y = reflected(position // padded_width - margin, height)
    across = reflected(position % padded_width - margin, width)
    inside = column < channels
    mean, _, scale, shift = affine(found, weight, bias, picture * group_step + column, plane, column, inside)
    place = (picture * height + y) * width + across
    value = tl.load(x + place * channels + column, mask=mask).to(tl.float32)
    value = _activated((value - mean) * scale + shift, slope)
    if ADD:
        place = picture * picture_step + y.to(tl.int64) * row_step + across.to(tl.int64) * column_step
        value += tl.load(residual + place + column, mask=mask).to(tl.float32)
    place = (picture * area + position) * channels
    tl.store(made + place + column, value.to(made.dtype.element_ty), mask=mask)
