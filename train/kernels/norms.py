"""Instance and batch norm with what follows them, channels last: activation, residual sum, reflection padding.

Forward a map is read twice, for its statistics and to write the result: at 1x64x512x512 in bf16 100 MB, which a card
with 4 TB/s moves in 25 us. Backward it is read twice too, together with the gradient. Statistics and sums are float32
whatever the map is, each result is rounded once, and nothing is summed by atomics, so all repeats bit for bit.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from train.kernels.maps import VALUES, channels_last, empty_like, reflected
from train.kernels.norm_gradients import Fused, affine, differentiate, differentiate_activation, steps_of, tiles
from train.kernels.statistics import statistics


def activate(x: Tensor, bias: Tensor, fused: Fused) -> Tensor:
    """Maps [B,C,H,W] plus bias [C], activated and padded, in their dtype, channels last."""
    made: Tensor = _Activate.apply(x, bias, fused)
    return made


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, left_out: Tensor | None, fused: Fused
) -> tuple[Tensor, Tensor, Tensor]:
    """Maps [B,C,H,W] normalised, times weight, plus bias [C], activated and padded, in their dtype, channels last.

    left_out: a bias [C] that the convolution before did not add. The norm would take it off again, so its gradient is
    0; where a deviation is rounding of the mean, it counts. Also returns mean and unbiased variance, float32 [G,C],
    without gradient; G is 1 if they are shared, else B.
    """
    made: tuple[Tensor, Tensor, Tensor] = _Norm.apply(x, weight, bias, left_out, fused)
    return made


def normalise_and_add(
    x: Tensor, weight: Tensor, bias: Tensor, left_out: Tensor | None, residual: Tensor, fused: Fused
) -> tuple[Tensor, ...]:
    """The sum of a residual and x normalised, [B,C,H,W] each, which is the inner part of the next result: it padded.

    Then mean and variance as in `normalise`. The residual has x's dtype; it may be the inner part of a padded map.
    """
    made: tuple[Tensor, ...] = _NormAdd.apply(x, weight, bias, left_out, residual, fused)
    return made


def pass_gradient_of_varied(picture: Tensor, made: Tensor, least: float) -> Tensor:
    """`made` [B,D,h,w]; its gradient is 0 for pictures [B,C,H,W] all of whose channels deviate by less than `least`.

    Forward nothing is computed.
    """
    passed: Tensor = _OfVaried.apply(picture, made, least)
    return passed


class _OfVaried(Function):
    @staticmethod
    def forward(ctx: Any, picture: Tensor, made: Tensor, least: float) -> Tensor:
        ctx.save_for_backward(picture)
        ctx.least = least
        return made.view_as(made)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        picture = channels_last(ctx.saved_tensors[0])
        variance = statistics(picture, 1.0, shared=False)[2]  # [B,C]
        gradient = channels_last(gradient)
        passed = empty_like(gradient, *gradient.shape[2:])
        batch, channels = variance.shape
        size = gradient.numel() // batch
        block = triton.next_power_of_2(channels)
        grid = (triton.cdiv(size, VALUES), batch)
        _pass_varied[grid](gradient, variance, passed, channels, size, ctx.least**2, block, VALUES)
        return None, passed, None


class _Activate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, fused: Fused) -> Tensor:
        x = channels_last(x)
        ctx.save_for_backward(x, bias)
        ctx.fused = fused
        return _write(x, None, None, bias, None, fused)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, bias = ctx.saved_tensors
        return *differentiate_activation(x, bias, ctx.fused, channels_last(gradient)), None


class _Norm(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, left_out: Tensor | None, fused: Fused
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, found, kept = _begin(ctx, x, weight, bias, left_out, fused)
        return _write(x, found, weight, bias, None, fused), *kept

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        made, (bias, weight, left_out) = differentiate(
            ctx.saved_tensors, ctx.fused, channels_last(gradient), ctx.fused.margin
        )
        return made, weight, bias, left_out if ctx.needs_input_grad[3] else None, None


class _NormAdd(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, left_out: Tensor | None, residual: Tensor, fused: Fused
    ) -> tuple[Tensor, ...]:
        x, found, kept = _begin(ctx, x, weight, bias, left_out, fused)
        padded = _write(x, found, weight, bias, _with_fast_channels(residual), fused)
        margin, (height, width) = fused.margin, x.shape[2:]
        return padded[:, :, margin : margin + height, margin : margin + width], padded, *kept

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, inner: Tensor | None, padded: Tensor | None, *_: Tensor) -> tuple[Tensor | None, ...]:
        saved, fused = ctx.saved_tensors, ctx.fused
        inner = None if inner is None else channels_last(inner)
        if padded is None:
            assert inner is not None
            summed, (made, (bias, weight, left_out)) = inner, differentiate(saved, fused, inner, 0)
        else:
            padded = channels_last(padded)
            summed = empty_like(padded, *saved[0].shape[2:])
            made, (bias, weight, left_out) = differentiate(saved, fused, padded, fused.margin, inner, summed)
        return made, weight, bias, left_out if ctx.needs_input_grad[3] else None, summed, None


def _begin(
    ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, left_out: Tensor | None, fused: Fused
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """The map, channels last, and its statistics [3,G,C], kept for the gradient; of these mean and variance."""
    x = channels_last(x)
    found = statistics(x, fused.epsilon, shared=fused.shared, left_out=left_out)
    ctx.save_for_backward(x, found, weight, bias)
    ctx.fused = fused
    mean, _, variance = found
    ctx.mark_non_differentiable(mean, variance)
    ctx.set_materialize_grads(False)  # else zeros are written for both, two launches a norm
    return x, found, (mean, variance)


def _with_fast_channels(x: Tensor) -> Tensor:
    """`x` itself if its channels lie side by side, as in the inner part of a padded map."""
    return x if x.stride(1) == 1 else channels_last(x)


def _write(
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


@triton.jit
def _pass_varied(gradient, variance, passed, channels, size, least, CHANNELS: tl.constexpr, VALUES: tl.constexpr):
    picture = tl.program_id(1).to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    found = tl.load(variance + picture * channels + channel, mask=channel < channels, other=0.0)
    varied = tl.sum(tl.where((channel >= channels) | (found < least), 0, 1), axis=0) > 0
    place = tl.program_id(0) * VALUES + tl.arange(0, VALUES)
    value = tl.load(gradient + picture * size + place, mask=place < size, other=0.0)
    tl.store(passed + picture * size + place, tl.where(varied, value, 0.0), mask=place < size)
