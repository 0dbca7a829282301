"""Scoring with networks: the cache, what is shared, and distances that point the right way on real pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluate.columns import COLUMNS, Metric
from evaluate.features.extract import PictureSet, digest_pixels, distances, to_unit, vectors
from evaluate.features.lpips import Trunk
from evaluate.metrics.fid_kid import Products, fid
from evaluate.metrics.misregistration import SHIFTS, shifts_for, windows
from evaluate.metrics.paired import phv, psnr, ssim
from evaluate.protocol import CORRECTED, PUBLISHED, ProtocolName, Reading
from evaluate.scores_file import Scores, read_scores, write_scores
from evaluate.scoring.rows import Depth
from evaluate.scoring.score import score_run
from store.images import read_picture
from store.reader import Store
from store.schema import Split, Stain
from tests.support.places import SHARED, needs_shared
from tests.support.predictions import Seeded, fabricate

CPU = torch.device("cpu")
PAIRS = SHARED / "data" / "derived-pairs256"
SQUEEZENET = SHARED / "weights" / "squeezenet-deep-compression" / "squeezenet1_0_deepcompression_tv.pth"
ONES = np.ones(10, dtype=np.int64)


def as_set(pictures: Sequence[NDArray[np.uint8]]) -> PictureSet:
    return PictureSet(read=pictures.__getitem__, digests=tuple(digest_pixels(picture) for picture in pictures))


@pytest.fixture(scope="module")
def deep(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Depth, Scores]:
    folder = tmp_path_factory.mktemp("runs")
    fabricate(folder / "noisy", small_store)
    depth = Depth(networks=Seeded(), cache=folder / "features")
    return folder / "noisy", depth, score_run(folder / "noisy", None, small_store, Split.TEST, "tile", depth)


def test_every_cell_is_filled_and_is_that_of_the_plain_functions(
    small_store: Store, deep: tuple[Path, Depth, Scores]
) -> None:
    run, _, scores = deep
    networks = Seeded()
    folder = run / "predictions" / "test" / "tile"
    fake, cut = (
        [read_picture(folder / name / picture.name) for picture in scores.pictures]
        for name in ("fake", "fake_truncated")
    )
    real = [small_store.picture(Split.TEST, "tile", Stain.IHC, place) for place in range(4)]
    again = [np.where((picture > 0) & (picture < 64), picture - 1, picture) for picture in real]
    for name, protocol, one, two in (
        (ProtocolName.CORRECTED, CORRECTED, fake, real),
        (ProtocolName.PUBLISHED, PUBLISHED, cut, again),
    ):
        row = scores.row(name)
        assert set(row.cells) == set(Metric)
        read = networks.pooled(protocol.phv)
        sides = [[stage.numpy() for stage in read(to_unit(side, CPU))] for side in (one, two)]
        layers = phv(*sides, protocol.phv_threshold)
        np.testing.assert_allclose(row.values.metrics[Metric.PHV], layers.mean(axis=1), atol=2 / 128)
        np.testing.assert_allclose(row.cells[Metric.PHV4].value, layers[:, 3].mean(), atol=2 / 512)
        assert row.cells[Metric.FID].value == pytest.approx(fid(sides[0][-1], sides[1][-1]), rel=1e-3)
        kid = Products.of(sides[0][-1], sides[1][-1]).kid(np.ones(4, dtype=np.int64))
        assert row.cells[Metric.KID].value == pytest.approx(1000 * kid, rel=1e-4)  # a subset of 100 is all four
        network = networks.perceptual(Trunk.ALEX)
        taps = [[network.taps(to_unit([picture], CPU)) for picture in side] for side in (one, two)]
        plain = [float(network.distance(a, b)[0]) for a, b in zip(*taps, strict=True)]
        np.testing.assert_allclose(row.values.metrics[Metric.LPIPS_ALEX], plain, rtol=1e-5)
    assert scores.row(ProtocolName.PUBLISHED).cells[Metric.KID].spread == pytest.approx(0, abs=1e-9)
    assert "subsets are all the same 4 pictures" in scores.row(ProtocolName.PUBLISHED).cells[Metric.KID].note
    assert np.isnan(scores.row(ProtocolName.CORRECTED).cells[Metric.KID].spread)
    assert (
        "FID of 4 pictures, fewer than 2048, is biased upward"
        in scores.row(ProtocolName.CORRECTED).cells[Metric.FID].note
    )


def test_features_are_computed_once_and_found_again(small_store: Store, deep: tuple[Path, Depth, Scores]) -> None:
    run, depth, scores = deep
    fresh = Seeded()
    again = score_run(run, None, small_store, Split.TEST, "tile", replace(depth, networks=fresh))
    assert fresh.looked == 0
    assert repr(again) == repr(scores)
    other = Seeded(digest="other weights")
    score_run(run, None, small_store, Split.TEST, "tile", replace(depth, networks=other))
    assert other.looked > 4 * 6 * 3


def test_a_damaged_cache_file_is_made_anew(small_store: Store, tmp_path: Path) -> None:
    pictures = as_set([small_store.picture(Split.TEST, "tile", Stain.IHC, place) for place in range(4)])
    networks = Seeded()

    def read() -> NDArray[np.floating]:
        return vectors(Reading.PHV, lambda: networks.pooled(Reading.PHV), "w", [pictures], tmp_path, CPU)[0][-1]

    first, (file,) = read(), list(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:-100])
    np.testing.assert_array_equal(read(), first)
    assert networks.looked == 2 * 4
    np.testing.assert_array_equal(read(), first)
    assert networks.looked == 2 * 4


def test_an_equal_picture_goes_through_a_network_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    varied = as_set([rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(5)])
    constant = as_set([np.full((64, 64, 3), 200, np.uint8)] * 5)
    networks = Seeded()
    found = distances(
        Trunk.ALEX, lambda: networks.perceptual(Trunk.ALEX), "w", [(varied, varied), (constant, varied)], tmp_path, CPU
    )
    assert networks.looked == 5 + 1
    np.testing.assert_array_equal(found[0], 0)
    assert (found[1] > 0).all()


def test_the_order_of_pictures_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, two = ([rng.integers(low, 256, (64, 64, 3), dtype=np.uint8) for _ in range(10)] for low in (0, 60))
    order = rng.permutation(10)
    networks, found = Seeded(), []
    for pick in (range(10), order):
        sides = [as_set([side[place] for place in pick]) for side in (one, two)]
        read = vectors(Reading.FID, lambda: networks.pooled(Reading.FID), "w", sides, tmp_path, CPU)
        products = Products.of(read[0][-1], read[1][-1])
        found.append((products.fid(ONES), products.kid(ONES)))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_scores_with_every_number_read_back_equal(deep: tuple[Path, Depth, Scores]) -> None:
    run, _, scores = deep
    write_scores(scores, run / "predictions" / "test" / "tile")
    assert repr(read_scores(run, Split.TEST, "tile")) == repr(scores)


def test_the_curve_gets_worse_the_farther_the_real_picture_is_moved(deep: tuple[Path, Depth, Scores]) -> None:
    curve = deep[2].misregistration
    assert (curve.shifts, curve.pictures, curve.width) == (SHIFTS, 4, 128 - 48)
    assert curve.perfect[Metric.SSIM][0] == 1
    for metric in (Metric.SSIM, Metric.PHV, Metric.LPIPS_ALEX, Metric.LPIPS_VGG):
        sign = -1 if COLUMNS[metric].higher else 1
        perfect, fake = (sign * np.array(side[metric]) for side in (curve.perfect, curve.fake))
        assert perfect[0] < perfect[1] < perfect[4]
        assert fake[0] > perfect[0]
        assert perfect[4] < perfect[7] or abs(perfect[7] - perfect[4]) < 0.3 * abs(perfect[4])


def test_windows_show_the_picture_moved_to_the_right() -> None:
    picture = np.arange(20, dtype=np.uint8)[None, :, None].repeat(3, 2)
    found = [window[0, :, 0].tolist() for window in windows(picture, (0, 1, 4))]
    assert found == [list(range(4, 20)), list(range(3, 19)), list(range(16))]
    assert shifts_for(64) == (0, 1, 2, 4, 8, 16, 32)


def blur(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each pixel the mean of 3 x 3."""
    padded = np.pad(picture.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    windows = [padded[top : top + 256, left : left + 256] for top in range(3) for left in range(3)]
    return np.mean(windows, axis=0).round().astype(np.uint8)


@needs_shared
def test_on_real_tissue_identical_is_nearer_than_blurred_and_that_than_another_stain(tmp_path: Path) -> None:
    """By a SqueezeNet that was trained on ImageNet, in the place of every network; LPIPS without heads, PHV with a
    threshold to suit that network, whose features are a thousand times ResNet-50's."""
    networks = Seeded(torch.load(SQUEEZENET, weights_only=True), digest="trained")
    names = sorted(file.name for file in (PAIRS / "IHC").iterdir())[::4]
    he, ihc = ([read_picture(PAIRS / stain / name) for name in names] for stain in ("HE", "IHC"))
    blurred = [blur(picture) for picture in ihc]
    sets = [as_set(side) for side in (ihc, blurred, he)]
    assert len(names) == 10
    read = vectors(Reading.FID, lambda: networks.pooled(Reading.FID), "w", sets, tmp_path, CPU)
    real, found = read[0], {"lpips": [], "phv": [], "fid": [], "kid": [], "ssim": [], "psnr": []}
    for one, other in zip(read, (ihc, blurred, he), strict=True):
        products = Products.of(one[-1], real[-1])
        found["fid"].append(products.fid(ONES))
        found["kid"].append(products.kid(ONES))
        found["phv"].append(float(phv(one, real, 5.0).mean()))
        found["ssim"].append(-np.mean([ssim(a, b) for a, b in zip(other, ihc, strict=True)]))
        found["psnr"].append(-np.mean([psnr(a, b) for a, b in zip(other, ihc, strict=True)]))
    for columns in distances(
        Trunk.VGG, lambda: networks.perceptual(Trunk.VGG), "w", [(one, sets[0]) for one in sets], tmp_path, CPU
    ):
        found["lpips"].append(float(columns.mean()))
    assert all(first < second < third for first, second, third in found.values()), found
    assert abs(found["fid"][0]) < 1e-6
    assert found["kid"][0] <= 0
    assert found["lpips"][0] == found["phv"][0] == 0
