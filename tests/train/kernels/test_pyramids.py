"""The fused differences of pyramids against plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.kernels import DEVICE, agree, count_launches, draw, kernels
from train import losses
from train.kernels import launching

pytest.importorskip("triton", reason="Triton is on Linux only")
from train.kernels import pyramids
from train.kernels.pyramids import Pyramid, differences

BINOMIAL = (6 / 16, 4 / 16, 1 / 16)
FOUR_BLURS = (70 / 256, 56 / 256, 28 / 256, 8 / 256, 1 / 256)  # of (1,2,1)/4, as one

CASES = [  # shape, dtype, taps, whether levels are blurred, whether their sum is wanted, levels
    ((3, 3, 3, 4), torch.float32, BINOMIAL, True, True, 2),
    ((1, 1, 5, 4), torch.bfloat16, BINOMIAL, True, False, 3),
    ((1, 3, 5, 4), torch.float32, FOUR_BLURS, False, False, 2),
    ((1, 1, 5, 6), torch.bfloat16, FOUR_BLURS, False, True, 2),
]


def plain(rest: Tensor, pyramid: Pyramid) -> Tensor:
    """The same one axis after the other; what lies outside by more than a side is mirrored again."""
    measured, radius = [], len(pyramid.taps) - 1
    for _ in pyramid.weights[1:]:
        blurred = rest
        for axis in (2, 3):
            side = rest.shape[axis]
            total = torch.zeros_like(blurred)
            for step in range(-radius, radius + 1):
                place = (torch.arange(side, device=rest.device) + step) % (2 * (side - 1))
                mirrored = (side - 1) - (place - (side - 1)).abs()
                total = total + pyramid.taps[abs(step)] * blurred.index_select(axis, mirrored)
            blurred = total
        measured.append(blurred if pyramid.blurred else rest)
        rest = blurred[:, :, ::2, ::2]
    values = [value.abs().mean(dim=(1, 2, 3)) for value in (*measured, rest)]
    weighted = torch.stack([weight * value for weight, value in zip(pyramid.weights, values, strict=True)])
    return weighted.sum(dim=0) if pyramid.total else weighted


@pytest.mark.parametrize(("shape", "dtype", "taps", "blurred", "total", "levels"), CASES)
def test_differences_are_the_plain_ones_with_their_gradients(
    shape: tuple[int, ...], dtype: torch.dtype, taps: tuple[float, ...], blurred: bool, total: bool, levels: int
) -> None:
    pyramid = Pyramid(taps=taps, blurred=blurred, weights=(0.5, 2.0, 3.0)[:levels], total=total)
    agree(lambda x: differences(x, pyramid), lambda x: plain(x, pyramid), draw(*shape, dtype=dtype))


def test_equal_pictures_have_no_difference_and_no_gradient() -> None:
    rest = torch.zeros(1, 3, 4, 4, device=DEVICE, requires_grad=True)
    with kernels():
        made = differences(rest, Pyramid(taps=BINOMIAL, blurred=True, weights=(1.0, 1.0), total=True))
        (gradient,) = torch.autograd.grad(made.sum(), rest)
    assert not made.any()
    assert not gradient.any()


def test_losses_ask_for_the_differences_that_they_compute_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramids, "differences", plain)
    fake, real = draw(2, 3, 40, 36), draw(2, 3, 40, 36, seed=1)
    weights = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    truth = [losses.pyramid(fake, real), losses.pyramid(fake, real, weights)]
    truths = [*losses.pyramid_levels(fake, real), *losses.octaves(fake, real), *truth]
    with kernels():
        assert launching.takes(fake, real)
        made = [losses.pyramid(fake, real), losses.pyramid(fake, real, weights)]
        fused = [*losses.pyramid_levels(fake, real), *losses.octaves(fake, real), *made]
    for ours, theirs in zip(fused, truths, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
def test_a_pyramid_is_seven_launches_forward_and_six_backward() -> None:
    fake, real = (draw(1, 3, 64, 64, seed=seed).contiguous(memory_format=torch.channels_last) for seed in (0, 1))
    fake.requires_grad_()
    upstream = torch.ones(1, device=DEVICE)
    assert count_launches(lambda: losses.pyramid(fake, real)) == 7  # the difference, five levels, the sum
    assert count_launches(lambda: torch.autograd.grad(losses.pyramid(fake, real), fake, upstream)) == 12
