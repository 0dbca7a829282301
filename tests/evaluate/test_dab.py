"""DAB density: the formula, its clipping and unit, and that its correlation measures what it says."""

from __future__ import annotations

import json
from math import isnan

import numpy as np
import pytest

from evaluate.columns import Agreement
from evaluate.metrics.agreement import agreement_cells, pearson, relative_error, spearman
from evaluate.metrics.dab import POSITIVE, dab_stats, density_stats
from evaluate.metrics.statistics import resample
from store.images import read_picture
from store.stain.dab import dab_density, mean_dab
from tests.support.places import GOLDEN, SHARED, needs_shared

IHC = SHARED / "data" / "scikit-image" / "ihc.png"
PAIRS = SHARED / "data" / "derived-pairs256" / "IHC"
REFERENCES = json.loads((GOLDEN / "dab_derived_pairs256.json").read_text())
HAEMATOXYLIN, EOSIN, DAB = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)


def stained(haematoxylin: float, eosin: float, dab: float, side: int = 8) -> np.ndarray:
    """A picture of one colour, u8 [H,W,3], by Beer and Lambert's law from decadic densities."""
    density = haematoxylin * np.array(HAEMATOXYLIN) + eosin * np.array(EOSIN) + dab * np.array(DAB)
    return np.broadcast_to(np.rint(255 * 10**-density), (side, side, 3)).astype(np.uint8)


@pytest.mark.parametrize("dab", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("haematoxylin", "eosin"), [(0.0, 0.0), (0.4, 0.0), (0.2, 0.3)])
def test_the_density_that_was_mixed_in_is_found_again(haematoxylin: float, eosin: float, dab: float) -> None:
    """Tolerance: rounding to grey levels, half a level of some 40 at the darkest."""
    assert mean_dab(stained(haematoxylin, eosin, dab)) == pytest.approx(dab, abs=0.01)


def test_every_pixel_agrees_with_the_formula_written_out() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    unmix = np.linalg.inv(np.array([HAEMATOXYLIN, EOSIN, DAB]))
    plain = np.maximum(-np.log10(np.maximum(picture, 1) / 255) @ unmix, 0)[..., 2]
    assert (plain == 0).any()
    np.testing.assert_allclose(dab_density(picture), plain, atol=1e-12)


def test_the_table_of_grey_levels_is_the_deconvolution_of_every_picture() -> None:
    """A picture of numbers takes the plain way; each channel has each level, beside all kinds of others."""
    picture = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for channel in range(3):
        picture[:, channel, channel] = np.arange(256)
    turned = np.rot90(picture)  # other strides
    for one in (picture, turned, np.zeros_like(picture), np.full_like(picture, 255), picture[:1, :1]):
        np.testing.assert_allclose(dab_density(one), dab_density(one.astype(np.float64)), rtol=0, atol=1e-14)
    assert not np.signbit(dab_density(np.full((2, 2, 3), 255, np.uint8))).any()


def test_blue_and_white_have_no_dab_and_black_is_finite() -> None:
    white, black = np.full((8, 8, 3), 255, np.uint8), np.zeros((8, 8, 3), np.uint8)
    assert mean_dab(white) == 0
    assert mean_dab(np.full((8, 8, 3), (60, 60, 255), np.uint8)) == 0
    assert 0 < mean_dab(black) < 3


def test_the_positive_share_counts_pixels_from_the_threshold_on() -> None:
    picture = np.concatenate([stained(0.3, 0, POSITIVE + 0.05)] * 3 + [stained(0.3, 0, POSITIVE - 0.05)])
    assert dab_stats(picture).positive == 0.75
    assert dab_stats(picture).density == mean_dab(picture)


def test_more_dab_is_more_and_channels_in_the_wrong_order_are_not_the_same() -> None:
    pictures = [stained(0.3, 0, dab) for dab in (0.05, 0.2, 0.6)]
    assert mean_dab(pictures[0]) < mean_dab(pictures[1]) < mean_dab(pictures[2])
    assert abs(mean_dab(pictures[2][..., ::-1]) - 0.6) > 0.2


def test_shuffling_which_real_goes_with_which_fake_destroys_the_correlation() -> None:
    rng = np.random.default_rng(0)
    mixed = [stained(0.3, 0, dab, side=32) for dab in np.linspace(0.02, 0.6, 40)]
    noisy = [np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8) for picture in mixed]
    real, fake = [mean_dab(picture) for picture in mixed], [mean_dab(picture) for picture in noisy]
    shuffled = [spearman(rng.permutation(real).tolist(), fake) for _ in range(200)]
    assert spearman(real, fake) > 0.99
    assert abs(np.mean(shuffled)) < 0.04  # expected 0, standard error 1/sqrt(39 * 200) = 0.011
    assert np.std(shuffled) == pytest.approx(1 / np.sqrt(39), rel=0.2)


def test_spearman_is_by_rank_and_undefined_where_nothing_varies() -> None:
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == 1
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == -1
    assert spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert isnan(spearman([0.1, 0.2], [0.3, 0.3]))
    assert isnan(spearman([0.1], [0.3]))


def test_pearson_is_linear_and_undefined_where_nothing_varies() -> None:
    assert pearson([1, 2, 3, 4], [-3, -5, -7, -9]) == pytest.approx(-1)
    assert pearson([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1543.5 / (5 * 701520.75) ** 0.5)
    assert isnan(pearson([0.1, 0.2], [0.3, 0.3]))
    assert isnan(pearson([0.1], [0.3]))


@pytest.mark.skipif(not IHC.is_file(), reason="scikit-image's IHC picture is not beside the checkout")
def test_reference_values_of_a_real_picture() -> None:
    """Origin: the formula written out in numpy, on scikit-image's picture of colon, 512 px, FHL2 in brown."""
    measured = dab_stats(read_picture(IHC))
    assert measured.density == pytest.approx(0.3489000, abs=1e-6)
    assert measured.positive == pytest.approx(0.5849838, abs=1e-6)


@needs_shared
@pytest.mark.parametrize("name", REFERENCES)
def test_reference_values_of_real_pictures(name: str) -> None:
    """Origin: the formula written out in numpy; a pixel at the threshold may fall on either side."""
    measured, expected = dab_stats(read_picture(PAIRS / name)), REFERENCES[name]
    assert measured.density == pytest.approx(expected["density"], abs=1e-8)
    assert measured.integrated == pytest.approx(expected["integrated"], abs=1e-3)
    assert measured.positive == pytest.approx(expected["positive"], abs=1e-4)


def test_the_parts_of_a_picture_add_up_to_the_picture() -> None:
    density = np.random.default_rng(0).uniform(0, 0.4, (64, 64))
    found = density_stats(density)
    assert [len(found.part_density[zoom]) for zoom in (1, 2, 4)] == [1, 4, 16]
    for zoom in (1, 2, 4):
        assert found.part_density[zoom].mean() == pytest.approx(found.density)
        assert found.part_positive[zoom].mean() == pytest.approx(found.positive)
    assert found.part_density[2][1] == pytest.approx(density[:32, 32:].mean())
    assert found.part_density[4][7] == pytest.approx(density[16:32, 48:].mean())
    assert found.integrated == pytest.approx(density.sum())
    odd = density_stats(density[:63, :61])
    assert [len(odd.part_density[zoom]) for zoom in (1, 2, 4)] == [1, 4, 16]


def test_the_right_amount_in_the_wrong_place_shows_at_higher_zooms_only() -> None:
    """The quarters of each picture change places: its mean agrees as before, its parts no longer do."""
    rng, samples = np.random.default_rng(0), resample([str(n) for n in range(30)])
    maps = [rng.uniform(0, 0.6, (4, 4)).repeat(8, axis=0).repeat(8, axis=1) for _ in range(30)]
    moved = [np.roll(one, (16, 16), axis=(0, 1)) for one in maps]
    cells = agreement_cells([density_stats(one) for one in moved], [density_stats(one) for one in maps], samples)
    assert cells["x1"][Agreement.PEARSON].value == pytest.approx(1)
    assert cells["x1"][Agreement.RELATIVE].value == pytest.approx(0, abs=1e-12)
    for zoom in ("x2", "x4"):
        assert abs(cells[zoom][Agreement.PEARSON].value) < 0.3
        assert cells[zoom][Agreement.ERROR].value > 0.05
        assert cells[zoom][Agreement.ERROR].low < cells[zoom][Agreement.ERROR].value < cells[zoom][Agreement.ERROR].high


def test_a_relative_error_needs_dab_in_the_real_picture() -> None:
    assert relative_error([0.75, 0.25], [0.5, 0.5]) == [0.5, 0.5]
    assert isnan(relative_error([0.1], [0.0])[0])
