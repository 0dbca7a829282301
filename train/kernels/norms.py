"""Instance and batch norm with what follows them, channels last: activation, residual sum, reflection padding.

Forward a map is read twice, for its statistics and to write the result: at 1x64x512x512 in bf16 100 MB, which a card
with 4 TB/s moves in 25 us. Backward it is read twice too, together with the gradient. Statistics and sums are float32
whatever the map is, each result is rounded once, and nothing is summed by atomics, so all repeats bit for bit.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from train.kernels.maps import channels_last, empty_like
from train.kernels.norm_gradients import differentiate, differentiate_activation
from train.kernels.normalising import Fused, write
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


class _Activate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, fused: Fused) -> Tensor:
        x = channels_last(x)
        ctx.save_for_backward(x, bias)
        ctx.fused = fused
        return write(x, None, None, bias, None, fused)

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
        return write(x, found, weight, bias, None, fused), *kept

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
        padded = write(x, found, weight, bias, _with_fast_channels(residual), fused)
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
