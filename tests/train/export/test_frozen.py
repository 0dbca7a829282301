"""Statistics that are frozen in the file: as in PyTorch with given moments, and tiles of a picture without seams."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tests.support.exporting import drawn, exported, run, settings_of, settled, without_dropout
from train.export.frozen import Frozen
from train.export.networks import known, translation
from train.export.parity import ALIKE, compare, translated
from train.methods.registry import METHODS, build_method
from train.networks.reach import reach_of
from train.run.inference import translation_mode
from train.settings import AtTest
from train.translate.moments.collect import collect_together, layout_of

pytestmark = pytest.mark.usefixtures("one_thread")
TWICE = ("attention_gan", "generator.attention.levels=p3", "generator.attention.order=twice")


def frozen_of(generator: nn.Module, pictures: NDArray[np.float32]) -> Frozen:
    return Frozen(
        moments=collect_together(generator, torch.from_numpy(pictures)), layout=layout_of(known(generator)), source="ab"
    )


@pytest.mark.parametrize("words", [*((method,) for method in METHODS), TWICE], ids=" ".join)
def test_given_moments_translate_as_in_pytorch(words: tuple[str, ...]) -> None:
    settings = settings_of(*words)
    generator, multiple = without_dropout(settled(settings)), build_method(settings).multiple
    side = max(64, multiple)
    with translation_mode(generator, settings.generator.at_test):
        frozen = frozen_of(generator, drawn(2, side, side))
        pictures = [drawn(1, 72, 40), drawn(2, 37, 58)]
        made = run(exported(generator, frozen), *pictures)
        wanted = [translated(generator, picture, multiple, frozen) for picture in pictures]
        own = translated(generator, pictures[0], multiple)
    assert max(float(np.abs(one - other).max()) for one, other in zip(made, wanted, strict=True)) <= ALIKE
    assert np.abs(made[0] - own).max() > 20 * ALIKE  # another picture's statistics


def test_a_map_without_variance_becomes_the_bias_of_its_norm() -> None:
    """A generator that has seen glass alone: every deviation is 0."""
    generator = settled(settings_of("cut", "generator.norm=batch", "generator.at_test=training"))
    with translation_mode(generator, AtTest.TRAINING):
        frozen = frozen_of(generator, np.ones((1, 3, 64, 64), np.float32))
        assert (frozen.moments[frozen.layout.deviations] == 0).any()
        picture = drawn(1, 40, 40)
        (made,) = run(exported(generator, frozen), picture)
        np.testing.assert_allclose(made, translated(generator, picture, 4, frozen), atol=ALIKE)
    assert np.isfinite(made).all()


@pytest.mark.parametrize("method", ["attention_gan", "cyclegan"])
def test_tiles_fit_together_without_seams(method: str) -> None:
    """Windows that begin at multiples and overlap by the reach; with statistics of their own they do not fit."""
    generator = settled(settings_of(method, *(("generator.blocks=5",) if method == "cyclegan" else ()))).eval()
    whole = drawn(1, 64, 320)
    reach = -(-reach_of(known(generator)) // 4) * 4
    assert 0 < reach < 150
    left, right = whole[..., : 160 + reach], whole[..., 160 - reach :]

    def apart(model: bytes) -> float:
        wanted, one, other = run(model, whole, left, right)
        tiled = np.concatenate((one[..., :160], other[..., reach:]), axis=3)
        return float(np.abs(tiled - wanted).max())

    assert apart(exported(generator, frozen_of(generator, drawn(1, 64, 64)))) <= ALIKE
    assert apart(exported(generator)) > 20 * ALIKE


def test_a_file_with_other_moments_is_found() -> None:
    generator = settled(settings_of("attention_gan")).eval()
    frozen = frozen_of(generator, drawn(1, 64, 64))
    model = exported(generator, frozen)
    assert not translation(generator, frozen).sees_all
    same = compare(model, generator, 4, frozen)
    assert same is not None
    assert same.worst <= ALIKE
    for part in (frozen.layout.means, frozen.layout.deviations, frozen.layout.gate_means, frozen.layout.gate_peaks):
        moments = frozen.moments.clone()
        moments[part] += 2
        other = compare(model, generator, 4, replace(frozen, moments=moments))
        assert other is not None
        assert other.worst > ALIKE
