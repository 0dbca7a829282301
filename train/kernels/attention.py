"""AMMFI's pooling over channels, and its gate with the concatenation behind it, each in one kernel per direction.

PyTorch takes three kernels forward and some eight backward for each. A program of the pooling reads all channels of its
positions. Where the maximum is taken by several channels they share its gradient, as in PyTorch's `amax`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from train.kernels.maps import VALUES, channels_last, empty_like
from train.kernels.norm_gradients import tiles


def pool_channels(x: Tensor) -> Tensor:
    """Maximum and mean over the channels of maps [B,C,H,W], [B,2,H,W] in their dtype."""
    pooled: Tensor = _PoolChannels.apply(x)
    return pooled


def gate_and_concatenate(logits: Tensor, encoded: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
    """Decoded and gate * encoded, [B,2C,H,W], and the gate, the sigmoid of logits, from maps [B,C,H,W] of one dtype."""
    made: tuple[Tensor, Tensor] = _Gate.apply(logits, encoded, decoded)
    return made


class _PoolChannels(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = channels_last(x)
        ctx.save_for_backward(x)
        batch, channels, height, width = x.shape
        pooled = torch.empty(
            (batch, 2, height, width), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
        )
        grid, sizes = _whole(x)
        _pool[grid](x, pooled, batch * height * width, channels, *sizes)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        batch, channels, height, width = x.shape
        made = empty_like(x, height, width)
        grid, sizes = _whole(x)
        _unpool[grid](channels_last(gradient), x, made, batch * height * width, channels, *sizes)
        return made


def _whole(x: Tensor) -> tuple[tuple[int], tuple[int, int]]:
    """Programs that read all channels of their positions; positions and channels of one."""
    columns = triton.next_power_of_2(x.shape[1])
    rows = max(1, VALUES // columns)
    return (triton.cdiv(x.shape[0] * x.shape[2] * x.shape[3], rows),), (rows, columns)


class _Gate(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, encoded: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
        logits, encoded, decoded = channels_last(logits), channels_last(encoded), channels_last(decoded)
        batch, channels, height, width = encoded.shape
        gate = empty_like(encoded, height, width)
        joined = torch.empty(
            (batch, 2 * channels, height, width),
            dtype=encoded.dtype,
            device=encoded.device,
            memory_format=torch.channels_last,
        )
        grid, rows, columns = tiles(encoded)
        _join[grid](logits, encoded, decoded, gate, joined, height * width, channels, rows, columns)
        ctx.save_for_backward(gate, encoded)
        ctx.set_materialize_grads(False)
        return joined, gate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, joined: Tensor | None, gate: Tensor | None) -> tuple[Tensor | None, ...]:
        saved_gate, encoded = ctx.saved_tensors
        _, channels, height, width = encoded.shape
        made = [empty_like(encoded, height, width) for _ in range(3)]
        grid, rows, columns = tiles(encoded)
        _part[grid](
            None if joined is None else channels_last(joined),
            None if gate is None else channels_last(gate),
            saved_gate,
            encoded,
            *made,
            height * width,
            channels,
            rows,
            columns,
        )
        return tuple(made)


@triton.jit
def _pool(x, pooled, positions, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    position = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (position < positions) & (column < channels)
    value = tl.load(x + position * channels + column, mask=mask, other=0.0).to(tl.float32)
    peak = tl.max(tl.where(column < channels, value, float("-inf")), axis=1)[:, None]
    mean = tl.sum(value, axis=1)[:, None] / channels
    tl.store(pooled + position * 2, peak.to(pooled.dtype.element_ty), mask=position < positions)
    tl.store(pooled + position * 2 + 1, mean.to(pooled.dtype.element_ty), mask=position < positions)


@triton.jit
def _unpool(gradient, x, made, positions, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    position = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (position < positions) & (column < channels)
    value = tl.load(x + position * channels + column, mask=mask, other=0.0).to(tl.float32)
    value = tl.where(column < channels, value, float("-inf"))
    of_peak = tl.load(gradient + position * 2, mask=position < positions, other=0.0).to(tl.float32)
    of_mean = tl.load(gradient + position * 2 + 1, mask=position < positions, other=0.0).to(tl.float32)
    highest = tl.where(value == tl.max(value, axis=1)[:, None], 1.0, 0.0)
    result = highest * (of_peak / tl.sum(highest, axis=1)[:, None]) + of_mean / channels
    tl.store(made + position * channels + column, result.to(made.dtype.element_ty), mask=mask)


@triton.jit
def _join(
    logits, encoded, decoded, gate, joined, area, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    position = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    mask = (position < area) & (column < channels)
    place = (tl.program_id(2).to(tl.int64) * area + position) * channels
    share = tl.sigmoid(tl.load(logits + place + column, mask=mask, other=0.0).to(tl.float32))
    passed = share * tl.load(encoded + place + column, mask=mask, other=0.0).to(tl.float32)
    tl.store(gate + place + column, share.to(gate.dtype.element_ty), mask=mask)
    tl.store(joined + 2 * place + column, tl.load(decoded + place + column, mask=mask, other=0.0), mask=mask)
    tl.store(joined + 2 * place + channels + column, passed.to(joined.dtype.element_ty), mask=mask)


@triton.jit
def _part(
    of_joined, of_gate, gate, encoded, of_logits, of_encoded, of_decoded, area, channels, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    position = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    mask = (position < area) & (column < channels)
    place = (tl.program_id(2).to(tl.int64) * area + position) * channels
    share = tl.load(gate + place + column, mask=mask, other=0.0).to(tl.float32)
    value = tl.load(encoded + place + column, mask=mask, other=0.0).to(tl.float32)
    passed = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    kept = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    if of_joined is not None:
        kept += tl.load(of_joined + 2 * place + column, mask=mask, other=0.0).to(tl.float32)
        passed += tl.load(of_joined + 2 * place + channels + column, mask=mask, other=0.0).to(tl.float32)
    slope = passed * value
    if of_gate is not None:
        slope += tl.load(of_gate + place + column, mask=mask, other=0.0).to(tl.float32)
    slope = slope * share * (1.0 - share)
    passed = passed * share
    tl.store(of_logits + place + column, slope.to(of_logits.dtype.element_ty), mask=mask)
    tl.store(of_encoded + place + column, passed.to(of_encoded.dtype.element_ty), mask=mask)
    tl.store(of_decoded + place + column, kept.to(of_decoded.dtype.element_ty), mask=mask)
