"""Padding, halving and doubling of feature maps `[B,C,H,W]`, in any memory format, which each preserves.

Times are on two cores with AVX-512 bf16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from train.kernels import launching


def reflect_pad(x: Tensor, margin: int) -> Tensor:
    """`x` mirrored by `margin` px on each side, in its dtype: CPU autocast would turn bf16 into float32.

    PyTorch's gradient of it sums in varying order on a GPU, and PyTorch refuses it in deterministic runs; compiled, it
    was the slowest kernel of a step.
    """
    if launching.takes(x):
        from train.kernels import padding

        return padding.reflect_pad(x, margin)
    with torch.autocast(x.device.type, enabled=False):
        if x.is_cuda and (torch.are_deterministic_algorithms_enabled() or torch.compiler.is_compiling()):
            return mirror(x, margin)
        return F.pad(x, (margin, margin, margin, margin), mode="reflect")


def mirror(x: Tensor, margin: int) -> Tensor:
    """`reflect_pad` built from slices, whose gradient always sums in the same order."""
    for axis in (2, 3):
        before = x.narrow(axis, 1, margin).flip(axis)
        behind = x.narrow(axis, x.shape[axis] - 1 - margin, margin).flip(axis)
        x = torch.cat((before, x, behind), dim=axis)
    return x


def blur_down(x: Tensor) -> Tensor:
    """Half the side, rounded up: reflection pad 1, kernel (1,2,1)x(1,2,1)/16, stride 2.

    The kernel is two 2 x 2 means in a row: 8 ms at 1x128x128x128 bf16 channels-last, as a depthwise convolution 21 ms.
    It is linear, so its gradient does not need `x`; PyTorch's means would save both their inputs, which was a quarter
    of all that a step of ASP saved.
    """
    if launching.takes(x):
        from train.kernels import blurring

        return blurring.blur_down(x)
    halved: Tensor = _BlurDown.apply(x)
    return halved


class _BlurDown(torch.autograd.Function):
    """`blur_down` with a gradient that saves no tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if last else torch.contiguous_format
        ctx.sides = x.shape[2:]
        return F.avg_pool2d(F.avg_pool2d(reflect_pad(x, 1), 2, stride=1), 2, stride=2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The transposed steps: each value to its 2 x 2, the means again, and the mirrored border folded back.

        3.5 ms at 1x128x256x256 bf16 channels-last, where PyTorch's kernels take 22.6; it repeats bit for bit.
        """
        spread = F.interpolate(gradient.contiguous(memory_format=ctx.layout) * 0.25, scale_factor=2, mode="nearest")
        padded = F.avg_pool2d(spread, 2, stride=1, padding=1)
        height, width = ctx.sides
        for axis, side in ((2, height), (3, width)):
            padded.narrow(axis, 2, 1).add_(padded.narrow(axis, 0, 1))
            if side % 2:  # with an even side nothing reaches the far border
                padded.narrow(axis, side - 1, 1).add_(padded.narrow(axis, side + 1, 1))
        inner = padded[:, :, 1 : height + 1, 1 : width + 1]
        return inner.contiguous(memory_format=ctx.layout)


def blur_up(x: Tensor) -> Tensor:
    """Twice the side: kernel (1,3,3,1)x(1,3,3,1)/16 after replicate padding, which is bilinear with half-pixel centres.

    3.4 ms at 1x256x64x64 bf16 channels-last; as a transposed depthwise convolution 16 ms. The compiler's version for a
    CPU takes twenty times as long, so the compiler is given PyTorch's kernel as one operation.
    """
    if launching.takes(x):
        from train.kernels import blurring

        return blurring.blur_up(x)
    if torch.compiler.is_compiling():
        if x.is_cuda:
            return interleave(x)
        doubled: Tensor = double(x)
        return doubled
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def interleave(x: Tensor) -> Tensor:
    """`blur_up` built from slices: compiled for a GPU, it and its gradient are sums, and nothing is scattered."""
    for axis in (2, 3):
        side = x.shape[axis]
        before = torch.cat((x.narrow(axis, 0, 1), x.narrow(axis, 0, side - 1)), dim=axis)
        behind = torch.cat((x.narrow(axis, 1, side - 1), x.narrow(axis, side - 1, 1)), dim=axis)
        x = torch.stack((0.25 * before + 0.75 * x, 0.75 * x + 0.25 * behind), dim=axis + 1).flatten(axis, axis + 1)
    return x


@torch.library.custom_op("magstain::double", mutates_args=())
def double(x: Tensor) -> Tensor:
    """`blur_up` as one operation that the compiler does not change."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


@torch.library.custom_op("magstain::double_backward", mutates_args=())
def double_backward(gradient: Tensor) -> Tensor:
    """Its transpose."""
    batch, channels, height, width = gradient.shape
    shape = [batch, channels, height // 2, width // 2]
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    made: Tensor = torch.ops.aten.upsample_bilinear2d_backward(gradient, [height, width], shape, False, 2.0, 2.0)
    return made


@double.register_fake
def _(x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return x.new_empty(batch, channels, 2 * height, 2 * width).contiguous(memory_format=layout)


@double_backward.register_fake
def _(gradient: Tensor) -> Tensor:
    batch, channels, height, width = gradient.shape
    made = gradient.new_empty(batch, channels, height // 2, width // 2)
    return made.contiguous(memory_format=torch.channels_last)


double.register_autograd(lambda _, gradient: double_backward(gradient))
