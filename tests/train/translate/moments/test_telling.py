"""What is said before pictures go through a generator in tiles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.train.translate.moments.generators import drawn_generator, small_settings
from train.run.inference import translation_mode
from train.settings import AtTest, GeneratorSettings
from train.translate.moments.collect import layout_of
from train.translate.moments.telling import about_tiles
from train.translate.settings import NormStatistics, TranslateSettings

FIXED = "takes no statistics from a picture"
NOISE = "dropout is active at test"
SHORT = "an output pixel depends on 84 px around it, and overlap = 32"
DEAR = "each tile of 64 px costs 16.0 times its area"
PYRAMID = replace(small_settings("pyramid_p2p"), dropout=True)  # its reach is 84 px
ATTENTION = small_settings("attention_gan")  # its reach is 97 px


@pytest.mark.parametrize(
    ("settings", "mode", "wanted", "told"),
    [
        (ATTENTION, AtTest.EVALUATION, TranslateSettings(overlap=100), []),
        (PYRAMID, AtTest.TRAINING, TranslateSettings(overlap=96), [NOISE]),
        (PYRAMID, AtTest.EVALUATION, TranslateSettings(overlap=96), [FIXED]),
        (PYRAMID, AtTest.EVALUATION, TranslateSettings(overlap=96, norm_statistics=NormStatistics.TILE), []),
        (PYRAMID, AtTest.TRAINING, TranslateSettings(overlap=32), [SHORT, NOISE]),
        (PYRAMID, AtTest.EVALUATION, TranslateSettings(overlap=96, tile=64), [FIXED, DEAR]),
        (replace(PYRAMID, dropout=False), AtTest.TRAINING, TranslateSettings(overlap=96), []),
    ],
)
def test_what_holds_for_tiles_is_said(
    settings: GeneratorSettings, mode: AtTest, wanted: TranslateSettings, told: list[str]
) -> None:
    generator = drawn_generator(settings)
    with translation_mode(generator, mode):
        said = about_tiles(generator, layout_of(generator), wanted)
    assert len(said) == len(told)
    for sentence, expected in zip(said, told, strict=True):
        assert expected in sentence
