"""AMMFI's fused kernels against PyTorch's operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.kernels import DEVICE, agree, draw, each_dtype, each_shape, kernels
from train.networks.ammfi import AMMFI, pool_channels
from train.settings import AttentionSettings, Gate, Join


@pytest.mark.gpu
@each_dtype
@each_shape
def test_pooling_over_channels_is_maximum_and_mean_with_their_gradients(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    agree(pool_channels, pool_channels, draw(*shape, dtype=dtype), grad_fn="_PoolChannelsBackward")


@pytest.mark.gpu
def test_channels_that_share_the_maximum_share_its_gradient() -> None:
    x = draw(1, 5, 4, 3).round().clamp(max=1)
    assert ((x == x.amax(dim=1, keepdim=True)).sum(dim=1) > 1).any()
    agree(pool_channels, pool_channels, x)


@pytest.mark.gpu
@each_dtype
@each_shape
def test_the_gate_and_its_concatenation_have_their_gradients(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    pytest.importorskip("triton", reason="Triton is on Linux only")
    from train.kernels import attention

    def fused(logits: Tensor, encoded: Tensor, decoded: Tensor) -> Tensor:
        return torch.cat(attention.gate_and_concatenate(logits, encoded, decoded), dim=1)

    def plain(logits: Tensor, encoded: Tensor, decoded: Tensor) -> Tensor:
        gate = torch.sigmoid(logits)
        return torch.cat((decoded, gate * encoded, gate), dim=1)

    inputs = [draw(*shape, dtype=dtype, seed=seed) for seed in range(3)]
    tolerance = {torch.float32: 2**-20, torch.bfloat16: 2**-6, torch.float16: 2**-9}[dtype]  # the gate is kept rounded
    agree(fused, plain, *inputs, tolerance=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "settings",
    [
        AttentionSettings(),
        AttentionSettings(gate=Gate.SINGLE, relu=True),
        AttentionSettings(join=Join.ADD, spectral=True),
    ],
)
def test_ammfi_with_kernels_is_ammfi_without(settings: AttentionSettings) -> None:
    module = AMMFI(8, settings).to(DEVICE).eval()
    encoded, decoded = (draw(2, 8, 5, 4, seed=seed).requires_grad_() for seed in range(2))
    upstream = draw(*module(encoded, decoded)[0].shape, seed=3)

    def run() -> list[Tensor]:
        joined, gate = module(encoded, decoded)
        weights = [p for name, p in module.named_parameters() if not name.endswith("projection.0.bias")]
        return [joined, gate, *torch.autograd.grad(joined, [encoded, decoded, *weights], upstream)]

    plain = run()
    with kernels():
        fused = run()
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
