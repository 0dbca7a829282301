"""The computed reach of a generator against what changes when one row, or one column, of its input does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from train.networks.build import make_generator
from train.networks.moments import moments_from
from train.networks.reach import reach_of
from train.settings import (
    AttentionSettings,
    Gate,
    GeneratorSettings,
    Join,
    Levels,
    Network,
    Norm,
    Order,
    Resampling,
    TrainSettings,
    Width,
)

OFF = AttentionSettings(enabled=False)
RESNET = GeneratorSettings(base=4, blocks=5)
STRIDED = replace(RESNET, resampling=Resampling.STRIDED, spectral=False)
UNET = GeneratorSettings(network=Network.UNET, base=4, depth=5, spectral=False, attention=OFF)
GENERATORS = {
    "paper": RESNET,
    "p2-published-stem": replace(RESNET, stem=7, output=3, attention=AttentionSettings(levels=Levels.P2)),
    "p3-twice": replace(
        STRIDED,
        attention=AttentionSettings(
            levels=Levels.P3, order=Order.TWICE, kernel=1, spatial_kernel=3, join=Join.ADD, gate=Gate.SINGLE
        ),
    ),
    "wide": replace(RESNET, attention=AttentionSettings(spatial_kernel=3, width=Width.FULL, spectral=True)),
    "asp": replace(RESNET, stem=7, blocks=6, attention=OFF),
    "cyclegan": replace(STRIDED, stem=7, blocks=9, attention=OFF),
    "batch-norm": replace(STRIDED, norm=Norm.BATCH, attention=OFF),
    "no-norm": replace(STRIDED, norm=Norm.NONE, attention=OFF),
    "unet": UNET,
    "unet-deeper": replace(UNET, depth=6, norm=Norm.BATCH),
}


class Unchanged:
    """Moments that change nothing: mean 0 and deviation 1, and factors of one half."""

    def normalise(self, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        return x

    def gate(self, x: Tensor, of: object) -> Tensor:
        return torch.full((1, x.shape[1], 1, 1), 0.5, dtype=x.dtype)


def seen(generator: nn.Module, axis: int, length: int, across: int, place: int) -> list[int]:
    """Which rows, or columns, of the output depend on one of the input: what is computed from NaN is NaN.

    In float64, whose convolutions are plain sums of products.
    """
    picture = torch.zeros(1, 3, *((length, across) if axis == 2 else (across, length)), dtype=torch.float64)
    picture.narrow(axis, place, 1).fill_(torch.nan)
    with moments_from(generator, Unchanged()), torch.no_grad():
        unknown = generator(picture).isnan()
    return [place for (place,) in unknown.any(dim=5 - axis).any(dim=1)[0].nonzero().tolist()]


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("axis", [2, 3])
def test_the_reach_is_what_can_be_measured(name: str, axis: int) -> None:
    generator = make_generator(TrainSettings(generator=GENERATORS[name])).double().eval()
    reach, multiple = reach_of(generator), generator.multiple
    across = 2 * multiple
    length = 2 * (reach // multiple + 3) * multiple
    middle = length // 2 // multiple * multiple
    phases = range(multiple) if multiple <= 4 else (0, 1, multiple // 2 - 1, multiple // 2, multiple - 2, multiple - 1)
    measured = 0
    for place in (middle + phase for phase in phases):
        rows = seen(generator, axis, length, across, place)
        measured = max(measured, place - rows[0], rows[-1] - place)
    assert measured == reach
    assert reach + multiple < middle, "the picture is larger than what is seen"


def test_the_published_unet_sees_farther_than_a_tile() -> None:
    assert [reach_of(make_generator(TrainSettings(generator=replace(UNET, depth=d)))) for d in (7, 8)] == [381, 765]
