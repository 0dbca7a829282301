"""Minus the logarithm of a softmax at the diagonal: what PatchNCE asks of the cosines of patches, forward and backward.

A program has some rows. Forward keeps one number of each row, and backward computes the softmax anew from the cosines,
so that no matrix but them and their gradient goes through memory.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

ROWS = tl.constexpr(4)  # of a program


def cross_entropy_of_diagonal(cosines: Tensor, temperature: float) -> Tensor:
    """The loss of each row of cosines / temperature whose right column is its own: [...,P,P] -> [...,P], float32."""
    losses: Tensor = _CrossEntropy.apply(cosines, temperature)
    return losses


class _CrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, cosines: Tensor, temperature: float) -> Tensor:
        cosines = cosines.contiguous()
        losses = cosines.new_empty(cosines.shape[:-1])
        totals = torch.empty_like(losses)
        patches = cosines.shape[-1]
        grid = (triton.cdiv(losses.numel(), ROWS.value),)
        _compare[grid](cosines, losses, totals, losses.numel(), patches, temperature, triton.next_power_of_2(patches))
        ctx.save_for_backward(cosines, totals)
        ctx.temperature = temperature
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        cosines, totals = ctx.saved_tensors
        made, patches, rows = torch.empty_like(cosines), cosines.shape[-1], totals.numel()
        grid = (triton.cdiv(rows, ROWS.value),)
        sizes = (rows, patches, ctx.temperature, triton.next_power_of_2(patches))
        _compare_gradient[grid](cosines, totals, gradient.contiguous(), made, *sizes)
        return made, None


@triton.jit
def _compare(cosines, losses, totals, rows, patches, temperature, PATCHES: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PATCHES)[None, :]
    mask = (row < rows)[:, None] & (column < patches)
    start = row.to(tl.int64) * patches
    value = tl.load(cosines + start[:, None] + column, mask=mask, other=float("-inf")) / temperature
    own = tl.load(cosines + start + row % patches, mask=row < rows, other=0.0) / temperature
    most = tl.where(row < rows, tl.max(value, axis=1), 0.0)
    total = tl.log(tl.where(row < rows, tl.sum(tl.exp(value - most[:, None]), axis=1), 1.0))
    tl.store(losses + row, (most - own) + total, mask=row < rows)
    tl.store(totals + row, most + total, mask=row < rows)


@triton.jit
def _compare_gradient(cosines, totals, gradient, made, rows, patches, temperature, PATCHES: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PATCHES)[None, :]
    mask = (row < rows)[:, None] & (column < patches)
    place = row.to(tl.int64)[:, None] * patches + column
    value = tl.load(cosines + place, mask=mask, other=0.0) / temperature
    total = tl.load(totals + row, mask=row < rows, other=0.0)[:, None]
    slope = tl.load(gradient + row, mask=row < rows, other=0.0)[:, None] / temperature
    share = tl.exp(value - total) - tl.where(column == (row % patches)[:, None], 1.0, 0.0)
    tl.store(made + place, slope * share, mask=mask)
