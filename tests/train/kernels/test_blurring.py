"""The fused blurs against filters of convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.support.kernels import DEVICE, agree, count_launches, draw, each_dtype, each_shape, kernels
from train.networks.resampling import blur_down, blur_up


def halved(x: Tensor) -> Tensor:
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device)
    kernel = (taps[:, None] * taps / 16).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


@each_dtype
@each_shape
def test_blur_down_is_the_filter_with_its_gradient(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    agree(blur_down, halved, draw(*shape, dtype=dtype), grad_fn="_BlurDownBackward")


@pytest.mark.parametrize("sides", [(2, 2), (2, 3), (3, 2), (3, 3), (2, 7)])
def test_blur_down_of_the_smallest_sides(sides: tuple[int, int]) -> None:
    agree(blur_down, halved, draw(1, 2, *sides))


def test_blur_down_refuses_what_cannot_be_mirrored() -> None:
    with kernels(), pytest.raises(AssertionError, match="the sides 1 x 4 px are too small to be mirrored"):
        blur_down(draw(1, 2, 1, 4))


@each_dtype
@each_shape
def test_blur_up_is_bilinear_with_its_gradient(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    agree(blur_up, doubled, draw(*shape, dtype=dtype), grad_fn="_BlurUpBackward")


@pytest.mark.parametrize("sides", [(1, 1), (1, 2), (2, 1)])
def test_blur_up_of_the_smallest_sides(sides: tuple[int, int]) -> None:
    agree(blur_up, doubled, draw(1, 2, *sides))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
@pytest.mark.parametrize("blur", [blur_down, blur_up])
def test_a_blur_is_one_kernel_forward_and_one_backward(blur: object) -> None:
    assert callable(blur)
    x = draw(1, 64, 32, 32, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last).requires_grad_()
    upstream = torch.ones_like(blur(x))
    assert count_launches(lambda: blur(x)) == 1
    assert count_launches(lambda: torch.autograd.grad(blur(x), x, upstream)) == 2
