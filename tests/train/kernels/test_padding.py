"""The fused reflection padding against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.support.kernels import DEVICE, agree, count_launches, draw, each_dtype, each_shape, kernels
from train.networks.resampling import reflect_pad


@each_dtype
@each_shape
@pytest.mark.parametrize("margin", [1, 2, 3])
def test_padding_is_pytorchs_with_its_gradient(margin: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    agree(
        lambda x: reflect_pad(x, margin),
        lambda x: F.pad(x, (margin,) * 4, mode="reflect"),
        draw(*shape, dtype=dtype),
        grad_fn="_ReflectPadBackward",
    )


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
def test_padding_is_one_kernel_forward_and_one_backward() -> None:
    x = draw(1, 64, 32, 32, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last).requires_grad_()
    upstream = draw(1, 64, 38, 38, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    assert count_launches(lambda: reflect_pad(x, 3)) == 1
    assert count_launches(lambda: torch.autograd.grad(reflect_pad(x, 3), x, upstream)) == 2


def test_a_margin_that_mirrors_more_than_a_side_is_refused() -> None:
    with kernels(), pytest.raises(AssertionError, match="a margin of 3 px mirrors more than the sides 3 x 9 px"):
        reflect_pad(draw(1, 2, 3, 9), 3)
