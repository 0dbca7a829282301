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
from train.kernels.norm_gradients import differentiate
from train.kernels.normalising import Fused, write
from train.kernels.statistics import statistics


def normalise(x: Tensor, weight: Tensor, bias: Tensor, fused: Fused) -> tuple[Tensor, Tensor, Tensor]:
    """Maps [B,C,H,W] normalised, times weight, plus bias [C], activated and padded; in x's dtype, channels last.

    Also returns mean and unbiased variance, float32 [G,C], without gradient; G is 1 if they are shared, else B.
    """
    made: tuple[Tensor, Tensor, Tensor] = _Norm.apply(x, weight, bias, fused)
    return made


def normalise_and_add(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, fused: Fused) -> tuple[Tensor, ...]:
    """The sum of a residual and x normalised, [B,C,H,W] each, which is the inner part of the next result: it padded.

    Then mean and variance as in `normalise`. The residual has x's dtype; it may be the inner part of a padded map.
    """
    made: tuple[Tensor, ...] = _NormAdd.apply(x, weight, bias, residual, fused)
    return made


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, fused: Fused) -> tuple[Tensor, Tensor, Tensor]:
        x = channels_last(x)
        found = statistics(x, fused.epsilon, shared=fused.shared)
        ctx.save_for_backward(x, found, weight, bias)
        ctx.fused = fused
        ctx.mark_non_differentiable(found[0], found[2])
        return write(x, found, weight, bias, None, fused), found[0], found[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return *differentiate(ctx.saved_tensors, ctx.fused, channels_last(gradient), ctx.fused.margin), None


class _NormAdd(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, fused: Fused
    ) -> tuple[Tensor, ...]:
        x = channels_last(x)
        found = statistics(x, fused.epsilon, shared=fused.shared)
        ctx.save_for_backward(x, found, weight, bias)
        ctx.fused = fused
        ctx.set_materialize_grads(False)
        padded = write(x, found, weight, bias, _with_fast_channels(residual), fused)
        margin, (height, width) = fused.margin, x.shape[2:]
        ctx.mark_non_differentiable(found[0], found[2])
        return padded[:, :, margin : margin + height, margin : margin + width], padded, found[0], found[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, inner: Tensor | None, padded: Tensor | None, *_: Tensor) -> tuple[Tensor | None, ...]:
        saved, margin = ctx.saved_tensors, ctx.fused.margin
        inner = None if inner is None else channels_last(inner)
        if padded is None:
            assert inner is not None
            return *differentiate(saved, ctx.fused, inner, 0), inner, None
        padded = channels_last(padded)
        summed = empty_like(padded, *saved[0].shape[2:])
        return *differentiate(saved, ctx.fused, padded, margin, inner, summed), summed, None


def _with_fast_channels(x: Tensor) -> Tensor:
    """`x` itself if its channels lie side by side, as in the inner part of a padded map."""
    return x if x.stride(1) == 1 else channels_last(x)
