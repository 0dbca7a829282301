"""Blur down and blur up, channels last: each in one pass over memory forward and one backward.

Both are separable filters of (1,2,1)/4 and (1,3)/4. Neighbouring results read the same values, which come from the
cache: at 1x128x512x512 in bf16 blur down moves 84 MB, which a card with 4 TB/s does in 21 us, and blur up as much the
other way. A gradient reads the one to four results per axis that its pixel went into. Sums are in float32 and in fixed
order, and no tensor is saved, because filters are linear.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from train.kernels.maps import channels_last, channels_of, columns_of, cut, empty_like, reflected, row_of


def blur_down(x: Tensor) -> Tensor:
    """Half the side of [B,C,H,W], rounded up: reflection pad 1, kernel (1,2,1)x(1,2,1)/16, stride 2; sides from 2."""
    halved: Tensor = _BlurDown.apply(x)
    return halved


def blur_up(x: Tensor) -> Tensor:
    """Twice the side of [B,C,H,W]: kernel (1,3,3,1)x(1,3,3,1)/16 after replicate padding."""
    doubled: Tensor = _BlurUp.apply(x)
    return doubled


class _BlurDown(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        channels, height, width = x.shape[1:]
        assert min(height, width) > 1, f"the sides {height} x {width} px are too small to be mirrored by a pixel"
        ctx.sides = (height, width)
        halved = empty_like(x, (height + 1) // 2, (width + 1) // 2)
        pieces = cut(*halved.shape)
        _halve[pieces.grid](channels_last(x), halved, channels, height, width, pieces.columns, pieces.channels)
        return halved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        made = empty_like(gradient, *ctx.sides)
        pieces = cut(*made.shape)
        sizes = made.shape[1:]
        _halve_backward[pieces.grid](channels_last(gradient), made, *sizes, pieces.columns, pieces.channels)
        return made


class _BlurUp(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        channels, height, width = x.shape[1:]
        doubled = empty_like(x, 2 * height, 2 * width)
        pieces = cut(*doubled.shape)
        _double[pieces.grid](channels_last(x), doubled, channels, height, width, pieces.columns, pieces.channels)
        return doubled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        height, width = gradient.shape[2:]
        made = empty_like(gradient, height // 2, width // 2)
        pieces = cut(*made.shape)
        sizes = made.shape[1:]
        _double_backward[pieces.grid](channels_last(gradient), made, *sizes, pieces.columns, pieces.channels)
        return made


@triton.jit(do_not_specialize=["height", "width"])
def _halve(x, halved, channels, height, width, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr):
    halved_height, halved_width = (height + 1) // 2, (width + 1) // 2
    row = tl.program_id(0)  # of all pictures
    picture, place = row // halved_height, row % halved_height
    column, inside = columns_of(halved_width, COLUMNS)
    channel, exists = channels_of(channels, CHANNELS)
    total = tl.zeros((COLUMNS, CHANNELS), dtype=tl.float32)
    for vertical in tl.static_range(3):
        source = row_of(x, picture * height + reflected(2 * place + vertical - 1, height), width, channels)
        for horizontal in tl.static_range(3):
            left = reflected(2 * column + horizontal - 1, width)
            value = tl.load(source + left * channels + channel, mask=inside & exists, other=0.0)
            total += value.to(tl.float32) * ((1 + vertical % 2) * (1 + horizontal % 2) / 16)
    there = row_of(halved, row, halved_width, channels) + column * channels + channel
    tl.store(there, total, mask=inside & exists)


@triton.jit
def _went_down(place, side, second: tl.constexpr):
    """The results that a pixel went into, and with what weight: an even one into one, an odd one into two.

    The second and the last but one went into the outer results twice, because they are also beyond the border.
    """
    odd = place % 2 == 1
    if second:
        result = (place + 1) // 2
        there = odd & (result < (side + 1) // 2)
        return result, tl.where(there, tl.where(place == side - 2, 0.5, 0.25), 0.0)
    return place // 2, tl.where(odd & (place > 1), 0.25, 0.5)


@triton.jit(do_not_specialize=["height", "width"])
def _halve_backward(halved, made, channels, height, width, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr):
    halved_height, halved_width = (height + 1) // 2, (width + 1) // 2
    row = tl.program_id(0)  # of all pictures
    picture, place = row // height, row % height
    column, inside = columns_of(width, COLUMNS)
    channel, exists = channels_of(channels, CHANNELS)
    total = tl.zeros((COLUMNS, CHANNELS), dtype=tl.float32)
    for vertical in tl.static_range(2):
        above, weight = _went_down(place, height, vertical)
        if weight > 0:
            source = row_of(halved, picture * halved_height + above, halved_width, channels)
            for horizontal in tl.static_range(2):
                left, across = _went_down(column, width, horizontal)
                mask = inside & exists & (across > 0)
                value = tl.load(source + left * channels + channel, mask=mask, other=0.0)
                total += value.to(tl.float32) * (weight * across)
    there = row_of(made, row, width, channels) + column * channels + channel
    tl.store(there, total, mask=inside & exists)


@triton.jit(do_not_specialize=["height", "width"])
def _double(x, doubled, channels, height, width, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr):
    row = tl.program_id(0)  # of all pictures
    picture, place = row // (2 * height), row % (2 * height)
    column, inside = columns_of(2 * width, COLUMNS)
    channel, exists = channels_of(channels, CHANNELS)
    total = tl.zeros((COLUMNS, CHANNELS), dtype=tl.float32)
    for vertical in tl.static_range(2):
        above, weight = _between(place, height, vertical)
        source = row_of(x, picture * height + above, width, channels)
        for horizontal in tl.static_range(2):
            left, across = _between(column, width, horizontal)
            value = tl.load(source + left * channels + channel, mask=inside & exists, other=0.0)
            total += value.to(tl.float32) * (weight * across)
    there = row_of(doubled, row, 2 * width, channels) + column * channels + channel
    tl.store(there, total, mask=inside & exists)


@triton.jit
def _between(place, side, second: tl.constexpr):
    """One of the two pixels between whose centres a pixel of the doubled map is, and its weight: the nearer has 3/4."""
    pixel = (place + 1) // 2 - 1 + second
    return tl.minimum(tl.maximum(pixel, 0), side - 1), tl.where(place % 2 == second, 0.25, 0.75)


@triton.jit(do_not_specialize=["height", "width"])
def _double_backward(doubled, made, channels, height, width, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr):
    row = tl.program_id(0)  # of all pictures
    picture, place = row // height, row % height
    column, inside = columns_of(width, COLUMNS)
    channel, exists = channels_of(channels, CHANNELS)
    total = tl.zeros((COLUMNS, CHANNELS), dtype=tl.float32)
    for vertical in tl.static_range(4):  # a pixel went into four; those of a border into its outermost twice
        above = tl.minimum(tl.maximum(2 * place + vertical - 1, 0), 2 * height - 1)
        source = row_of(doubled, picture * 2 * height + above, 2 * width, channels)
        for horizontal in tl.static_range(4):
            left = tl.minimum(tl.maximum(2 * column + horizontal - 1, 0), 2 * width - 1)
            value = tl.load(source + left * channels + channel, mask=inside & exists, other=0.0)
            weight = (1 + 2 * (vertical % 3 > 0)) * (1 + 2 * (horizontal % 3 > 0)) / 16
            total += value.to(tl.float32) * weight
    there = row_of(made, row, width, channels) + column * channels + channel
    tl.store(there, total, mask=inside & exists)
