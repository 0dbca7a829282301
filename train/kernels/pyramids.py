"""Mean absolute differences of blurred and halved pictures, channels last: a launch per level forward and backward.

A level's kernel reads the picture once, blurs it, adds up absolute values, and writes their signs (a byte each) and the
halved picture; of one row at a time it keeps a partial sum, which a last kernel adds up. Several blurs in a row are one
with more taps, since reflection at both borders repeats with a period and a symmetric blur keeps that. For the same
reason the transposed blur is the blur itself, with values at the borders doubled before it and halved behind it: so its
gradient is a gather too. At 1x3x512x512 that is 6 launches and 10 MB forward, 5 and 9 MB backward; plainly over 200.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from train.kernels.maps import channels_last, channels_of, columns_of, empty_like, row_of

COLUMNS = 128  # of a program, at every level: 4 values for each thread; with 16 registers would not suffice
MOST_CHANNELS = 16
MOST_TAPS = 5  # on a side of a blur, with the centre
PARTIAL_SUMS = 1024  # that the last kernel adds up at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Pyramid:
    """Which differences are wanted of how many levels, each half the side of the one before."""

    taps: tuple[float, ...]
    """Weights of the blur from its centre outwards."""
    blurred: bool
    """Whether levels are compared after the blur, else before; the last one is only halved."""
    weights: tuple[float, ...]
    """Of each level, finest first."""
    total: bool
    """Whether the sum over the levels is wanted, else each."""

    def scale(self, level: int, shape: Sequence[int]) -> float:
        """The factor of a sum of absolute values [C,H,W] of this level that makes it a weighted mean."""
        channels, height, width = shape
        return self.weights[level] / (channels * height * width)


def differences(rest: Tensor, pyramid: Pyramid) -> Tensor:
    """Weighted mean absolute values of the levels of `rest` [B,C,H,W]: [L,B], or their sum, [B]; in its dtype."""
    made: Tensor = _Differences.apply(rest, pyramid)
    return made


class _Differences(Function):
    @staticmethod
    def forward(ctx: Any, rest: Tensor, pyramid: Pyramid) -> Tensor:
        batch, channels, height, width = rest.shape
        assert channels <= MOST_CHANNELS, f"{channels} channels: pictures have fewer"
        levels, radius = len(pyramid.weights), len(pyramid.taps) - 1
        most = height * triton.cdiv(width, COLUMNS)  # partial sums of a picture
        partial = torch.empty((levels, batch, most), dtype=torch.float32, device=rest.device)
        x, signs = channels_last(rest), list[Tensor]()
        for level in range(levels - 1):
            size, (high, wide) = x.shape[1:], x.shape[2:]
            assert radius <= 2 * (min(high, wide) - 1), f"sides of {height} x {width} px do not have {levels} levels"
            halved = empty_like(x, (high + 1) // 2, (wide + 1) // 2, dtype=torch.float32)
            signs.append(empty_like(x, high, wide, dtype=torch.int8))
            _level[_grid(x)](
                x,
                halved,
                signs[-1],
                partial[level],
                partial[level + 1],
                most,
                pyramid.scale(level, size),
                pyramid.scale(level + 1, halved.shape[1:]),
                *_all_taps(pyramid),
                *size,
                radius,
                pyramid.blurred,
                level == levels - 2,
                COLUMNS,
                triton.next_power_of_2(size[0]),
            )
            x = halved
        ctx.pyramid, ctx.dtype = pyramid, rest.dtype
        ctx.save_for_backward(x, *signs)
        shape = (batch,) if pyramid.total else (levels, batch)
        made = torch.empty(shape, dtype=rest.dtype, device=rest.device)
        _add_up[(batch,)](partial, made, batch, most, height, width, levels, pyramid.total, COLUMNS, PARTIAL_SUMS)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        pyramid: Pyramid = ctx.pyramid
        halved, *signs = ctx.saved_tensors
        gradient, last = gradient.contiguous(), len(signs) - 1
        of_level = (lambda _: gradient) if pyramid.total else (lambda level: gradient[level])
        for level in range(last, -1, -1):
            size = signs[level].shape[1:]
            made = empty_like(signs[level], size[1], size[2], dtype=torch.float32 if level else ctx.dtype)
            _level_backward[_grid(made)](
                signs[level],
                halved,
                of_level(level),
                of_level(level + 1),
                made,
                pyramid.scale(level, size),
                pyramid.scale(level + 1, halved.shape[1:]),
                *_all_taps(pyramid),
                *size,
                len(pyramid.taps) - 1,
                pyramid.blurred,
                level == last,
                COLUMNS,
                triton.next_power_of_2(size[0]),
            )
            halved = made
        return halved, None


def _grid(x: Tensor) -> tuple[int, int]:
    """Rows of all pictures, and pieces of a row."""
    batch, _, height, width = x.shape
    return batch * height, triton.cdiv(width, COLUMNS)


def _all_taps(pyramid: Pyramid) -> tuple[float, ...]:
    return (*pyramid.taps, *(0.0,) * (MOST_TAPS - len(pyramid.taps)))


@triton.jit
def _mirrored(place, side):
    """The pixel that lies at a place outside by up to 2 x (`side` - 1)."""
    place = tl.abs(place)
    return tl.abs(tl.minimum(place, 2 * (side - 1) - place))


@triton.jit
def _tap(place, radius: tl.constexpr, tap0, tap1, tap2, tap3, tap4):
    """The weight of a place of a blur."""
    distance = tl.abs(place - radius)
    near = tl.where(distance == 0, tap0, tl.where(distance == 1, tap1, tap2))
    return tl.where(distance < 3, near, tl.where(distance == 3, tap3, tap4))


@triton.jit(do_not_specialize=["most", "channels", "height", "width"])
def _level(
    x, halved, signs, partial, partial_halved, most, scale, scale_halved, tap0, tap1, tap2, tap3, tap4,
    channels, height, width,
    RADIUS: tl.constexpr, BLURRED: tl.constexpr, LAST: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)  # of all pictures
    picture, place = row // height, row % height
    column, inside = columns_of(width, COLUMNS)
    channel, exists = channels_of(channels, CHANNELS)
    mask = inside & exists
    blurred = tl.zeros((COLUMNS, CHANNELS), dtype=tl.float32)
    if (place % 2 == 0) | BLURRED:  # only even rows are kept
        for vertical in range(2 * RADIUS + 1):
            source = row_of(x, picture * height + _mirrored(place + vertical - RADIUS, height), width, channels)
            weight = _tap(vertical, RADIUS, tap0, tap1, tap2, tap3, tap4)
            for horizontal in tl.static_range(2 * RADIUS + 1):
                left = _mirrored(column + horizontal - RADIUS, width)
                value = tl.load(source + left * channels + channel, mask=mask, other=0.0).to(tl.float32)
                blurred += value * (weight * _tap(horizontal, RADIUS, tap0, tap1, tap2, tap3, tap4))
    here = column * channels + channel
    measured = blurred
    if not BLURRED:
        measured = tl.load(row_of(x, row, width, channels) + here, mask=mask, other=0.0).to(tl.float32)
    sign = (measured > 0).to(tl.int8) - (measured < 0).to(tl.int8)
    tl.store(row_of(signs, row, width, channels) + here, sign, mask=mask)
    slot = picture.to(tl.int64) * most + place * tl.num_programs(1) + tl.program_id(1)
    tl.store(partial + slot, tl.sum(tl.sum(tl.abs(measured), axis=1), axis=0) * scale)
    kept = mask & (place % 2 + column % 2 == 0)
    there = row_of(halved, picture * ((height + 1) // 2) + place // 2, (width + 1) // 2, channels)
    tl.store(there + (column // 2) * channels + channel, blurred, mask=kept)
    if LAST:
        amount = tl.sum(tl.sum(tl.where(kept, tl.abs(blurred), 0.0), axis=1), axis=0)
        tl.store(partial_halved + slot, amount * scale_halved)


@triton.jit(do_not_specialize=["batch", "most", "height", "width"])
def _add_up(
    partial, made, batch, most, height, width,
    LEVELS: tl.constexpr, TOTAL: tl.constexpr, COLUMNS: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    picture = tl.program_id(0)
    everything = 0.0
    for level in tl.static_range(LEVELS):
        halvings = min(level, LEVELS - 2)  # the last one was measured with the one before
        rows = (height + (1 << halvings) - 1) >> halvings
        count = rows * tl.cdiv((width + (1 << halvings) - 1) >> halvings, COLUMNS)
        begin = partial + (level * batch + picture).to(tl.int64) * most
        amounts = tl.zeros((SIZE,), dtype=tl.float32)
        for start in range(0, count, SIZE):
            place = start + tl.arange(0, SIZE)
            amounts += tl.load(begin + place, mask=place < count, other=0.0)
        amount = tl.sum(amounts, axis=0)
        everything += amount
        if not TOTAL:
            tl.store(made + level * batch + picture, amount)
    if TOTAL:
        tl.store(made + picture, everything)


@triton.jit(do_not_specialize=["channels", "height", "width"])
def _level_backward(
    signs, halved, gradient, gradient_halved, made, scale, scale_halved, tap0, tap1, tap2, tap3, tap4,
    channels, height, width,
    RADIUS: tl.constexpr, BLURRED: tl.constexpr, LAST: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """`halved` is the gradient of the halved picture, or of the last level that picture itself."""
    row = tl.program_id(0)  # of all pictures
    picture, place = row // height, row % height
    column, inside = columns_of(width, COLUMNS)
    channel, exists = channels_of(channels, CHANNELS)
    mask = inside & exists
    share = tl.load(gradient + picture).to(tl.float32) * scale
    share_halved = tl.load(gradient_halved + picture).to(tl.float32) * scale_halved
    total = tl.zeros((COLUMNS, CHANNELS), dtype=tl.float32)
    for vertical in range(2 * RADIUS + 1):
        above = _mirrored(place + vertical - RADIUS, height)
        if (above % 2 == 0) | BLURRED:
            coarse = row_of(halved, picture * ((height + 1) // 2) + above // 2, (width + 1) // 2, channels)
            fine = row_of(signs, picture * height + above, width, channels)
            weight = _tap(vertical, RADIUS, tap0, tap1, tap2, tap3, tap4)
            weight = tl.where((above == 0) | (above == height - 1), 2 * weight, weight)
            for horizontal in tl.static_range(2 * RADIUS + 1):
                left = _mirrored(column + horizontal - RADIUS, width)
                kept = mask & (above % 2 + left % 2 == 0)
                value = tl.load(coarse + (left // 2) * channels + channel, mask=kept, other=0.0)
                if LAST:
                    value = ((value > 0).to(tl.float32) - (value < 0).to(tl.float32)) * share_halved
                if BLURRED:
                    value += tl.load(fine + left * channels + channel, mask=mask, other=0).to(tl.float32) * share
                across = weight * _tap(horizontal, RADIUS, tap0, tap1, tap2, tap3, tap4)
                total += value * tl.where((left == 0) | (left == width - 1), 2 * across, across)
    total *= tl.where((place == 0) | (place == height - 1), 0.5, 1.0)
    total *= tl.where((column == 0) | (column == width - 1), 0.5, 1.0)
    here = column * channels + channel
    if not BLURRED:
        sign = tl.load(row_of(signs, row, width, channels) + here, mask=mask, other=0)
        total += sign.to(tl.float32) * share
    tl.store(row_of(made, row, width, channels) + here, total, mask=mask)
