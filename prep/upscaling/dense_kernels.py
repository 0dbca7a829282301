"""Dense blocks in Triton: 3x3 convolutions that read and write slices of one channels-last buffer.

The buffer [B,h,w,192] holds all that the convolutions of a dense block read: the 64 channels that enter, and four times
32 that they append. So nothing is concatenated, and bias, activation and sums happen before a result leaves the
registers. Two buffers take turns, because the last convolution reads its neighbours in one while others of its tiles
fill the first 64 channels of the other.

A convolution is the product of a matrix pixels x (9 taps x inputs), never built, and one (9 taps x inputs) x outputs,
added up in fp32 in one order. Tiles depend on the shape alone: the same batch gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from prep.upscaling.blocks import RESIDUAL, SLOPE

PIXELS = 128  # of a tile
LEAST = 16  # rows and columns of the smallest tile that tensor cores take
STAGES = 3  # of tiles on their way: 72 KiB of the largest, and cards since Ampere have 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A 3x3 convolution: `weight` [9 x inputs,outputs] by tap (row, then column) and input, `bias` [outputs]."""

    weight: Tensor
    bias: Tensor

    @property
    def inputs(self) -> int:
        """Channels that it reads."""
        return self.weight.shape[0] // 9

    @property
    def outputs(self) -> int:
        """Channels that it writes."""
        return self.weight.shape[1]


def pack(weight: Tensor, bias: Tensor) -> Packed:
    """The weight [outputs,inputs,3,3] of a convolution as the kernel reads it."""
    outputs, inputs = weight.shape[:2]
    return Packed(weight=weight.permute(2, 3, 1, 0).reshape(9 * inputs, outputs).contiguous(), bias=bias.contiguous())


def run_dense_blocks(blocks: Sequence[Sequence[Sequence[Packed]]], shallow: Tensor) -> Tensor:
    """Each block's dense blocks, each dense block's convolutions; fp32 [B,64,h,w] to fp32 [B,64,h,w], channels last."""
    entering = shallow.permute(0, 2, 3, 1).contiguous()  # [B,h,w,64]
    last = blocks[0][0][-1]
    here, there = (entering.new_empty((*entering.shape[:3], last.inputs), dtype=last.weight.dtype) for _ in range(2))
    here[..., : entering.shape[3]] = entering
    deep, inner, total = entering, torch.empty_like(entering), torch.empty_like(entering)
    for first, second, third in blocks:
        for dense, before in ((first, deep), (second, inner)):
            _append(dense[:-1], here)
            _convolve(dense[-1], here, there, added=(before,), total=inner)
            here, there = there, here
        _append(third[:-1], here)
        _convolve(third[-1], here, there, added=(inner, deep), total=total)
        here, there, deep = there, here, total
    return deep.permute(0, 3, 1, 2)


def _append(layers: Sequence[Packed], buffer: Tensor) -> None:
    """Let each convolution read the channels before its own, and write its own; buffer [B,h,w,192]."""
    for layer in layers:
        _convolve(layer, buffer, buffer[..., layer.inputs :])


def _convolve(
    layer: Packed, source: Tensor, target: Tensor, *, added: Sequence[Tensor] = (), total: Tensor | None = None
) -> None:
    """Convolve the first channels of `source`; the result, or the sum with it, goes to the first channels of `target`.

    source, target: [B,h,w,C] with the same h and w and any distance between pixels. Without `added` the result is
    activated. With (a,) it is a + 0.2 x result, with (a, b) it is b + 0.2 x (a + 0.2 x result), all fp32 [B,h,w,64];
    that sum goes to `total`, which may be one of the two, and rounded to `target`.
    """
    batch, height, width, _ = source.shape
    pixels = batch * height * width
    unused = layer.bias  # stands where the kernel reads nothing
    base, outer = (*added, unused, unused)[:2]
    depth = next((size for size in (64, 32) if layer.inputs % size == 0), LEAST)
    _convolution[(triton.cdiv(pixels, PIXELS),)](
        source, layer.weight, layer.bias, target, base, outer, unused if total is None else total,
        height, width, pixels, source.stride(2), target.stride(2),
        INPUTS=layer.inputs, OUTPUTS=layer.outputs, ADDED=len(added), RESIDUAL=RESIDUAL, SLOPE=SLOPE,
        ROWS=PIXELS, COLUMNS=max(LEAST, triton.next_power_of_2(layer.outputs)), DEPTH=depth, WIDEN=source.is_cpu,
        # 64 outputs fill the registers of 4 warps
        num_warps=4 if layer.outputs <= 32 else 8, num_stages=STAGES,
    )  # fmt: skip


@triton.jit
def _convolution(
    source, weight, bias, target, base, outer, total,
    height, width, pixels, source_step, target_step,
    INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, ADDED: tl.constexpr, RESIDUAL: tl.constexpr, SLOPE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """A tile of ROWS pixels, all outputs. Places are 64-bit: large batches have more than 2^31 values."""
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    row, place = pixel // width % height, pixel % width
    there = pixel < pixels
    start = pixel.to(tl.int64) * source_step
    result = tl.zeros((ROWS, COLUMNS), tl.float32)
    parts: tl.constexpr = (INPUTS + DEPTH - 1) // DEPTH
    for step in range(9 * parts):
        tap = step // parts
        channel = step % parts * DEPTH + tl.arange(0, DEPTH)
        down, right = tap // 3 - 1, tap % 3 - 1
        near = there & (row + down >= 0) & (row + down < height) & (place + right >= 0) & (place + right < width)
        moved = start + (down * width + right) * source_step
        values_at = source + moved[:, None] + channel[None, :]
        factors_at = weight + (tap * INPUTS + channel)[:, None] * OUTPUTS + column[None, :]
        if INPUTS % DEPTH == 0 and OUTPUTS == COLUMNS:  # as published: nothing to leave out but pixels
            values = tl.load(values_at, mask=near[:, None], other=0.0)
            factors = tl.load(factors_at)
        else:
            real = channel < INPUTS
            values = tl.load(values_at, mask=near[:, None] & real[None, :], other=0.0)
            factors = tl.load(factors_at, mask=real[:, None] & (column < OUTPUTS)[None, :], other=0.0)
        if WIDEN:  # the interpreter multiplies the bits of bf16
            values, factors = values.to(tl.float32), factors.to(tl.float32)
        result = tl.dot(values, factors, result, input_precision="ieee")
    result += tl.load(bias + column, mask=column < OUTPUTS, other=0.0).to(tl.float32)[None, :]
    written = there[:, None] & (column < OUTPUTS)[None, :]
    at = pixel.to(tl.int64)[:, None]
    if ADDED == 0:
        result = tl.where(result >= 0, result, result * SLOPE)
    else:
        own = at * OUTPUTS + column[None, :]
        result = tl.load(base + own, mask=written, other=0.0) + RESIDUAL * result
        if ADDED == 2:
            result = tl.load(outer + own, mask=written, other=0.0) + RESIDUAL * result
        tl.store(total + own, result, mask=written)
    tl.store(target + at * target_step + column[None, :], result.to(target.dtype.element_ty), mask=written)
