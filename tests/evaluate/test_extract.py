"""Features: the cache, what is shared, and distances that have the right order on real pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluate.columns import COLUMNS, Metric
from evaluate.features.extract import FeatureSource, compute_vectors, extract, measure_lpips, to_unit
from evaluate.features.lpips import Trunk
from evaluate.inputs.image_set import REAL
from evaluate.metrics.fid_kid import Products, fid
from evaluate.metrics.misregistration import SHIFTS, shifts_for, windows
from evaluate.metrics.paired import phv, psnr, ssim
from evaluate.metrics.statistics import resample
from evaluate.protocol import CORRECTED, FAKE, PROTOCOLS, PUBLISHED, FeatureSpec, ProtocolName
from evaluate.scores_file import Scores, read_scores, write_scores
from evaluate.scoring.aggregate import compute_rows
from evaluate.scoring.gathering import gather
from evaluate.scoring.per_image import score_images
from evaluate.scoring.score import score_run
from store.images import read_picture
from store.reader import Store
from store.schema import Split, Stain
from tests.support.image_sets import images_of
from tests.support.places import SHARED, needs_shared
from tests.support.predictions import Seeded, fabricate, without_weights

PAIRS = SHARED / "data" / "derived-pairs256"
SQUEEZENET = SHARED / "weights" / "squeezenet-deep-compression" / "squeezenet1_0_deepcompression_tv.pth"
ONES = np.ones(10, dtype=np.int64)


@pytest.fixture(scope="module")
def scored(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FeatureSource, Scores]:
    folder = tmp_path_factory.mktemp("runs")
    fabricate(folder / "noisy", small_store)
    source = FeatureSource(networks=Seeded(), cache=folder / "features")
    return folder / "noisy", source, score_run(folder / "noisy", None, small_store, Split.TEST, "tile", source)


def test_every_cell_is_filled_and_is_that_of_the_plain_functions(
    small_store: Store, scored: tuple[Path, FeatureSource, Scores]
) -> None:
    run, _, scores = scored
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
        sides = [[stage.numpy() for stage in read(to_unit(side, networks.device))] for side in (one, two)]
        layers = phv(sides[0], sides[1], protocol.phv_threshold)
        np.testing.assert_allclose(row.values.metrics[Metric.PHV], layers.mean(axis=1), atol=2 / 128)
        np.testing.assert_allclose(row.cells[Metric.PHV4].value, layers[:, 3].mean(), atol=2 / 512)
        assert row.cells[Metric.FID].value == pytest.approx(fid(sides[0][-1], sides[1][-1]), rel=1e-3)
        kid = Products.of(sides[0][-1], sides[1][-1]).kid(np.ones(4, dtype=np.int64))
        assert row.cells[Metric.KID].value == pytest.approx(1000 * kid, rel=1e-4)  # a subset of 100 is all four
        network = networks.perceptual(Trunk.ALEX)
        taps = [[network.taps(to_unit([picture], networks.device)) for picture in side] for side in (one, two)]
        plain = [float(network.distance(a, b)[0]) for a, b in zip(*taps, strict=True)]
        np.testing.assert_allclose(row.values.metrics[Metric.LPIPS_ALEX], plain, rtol=1e-5)
    assert scores.row(ProtocolName.PUBLISHED).cells[Metric.KID].spread == pytest.approx(0, abs=1e-9)
    assert "subsets are all the same 4 pictures" in scores.row(ProtocolName.PUBLISHED).cells[Metric.KID].note
    assert np.isnan(scores.row(ProtocolName.CORRECTED).cells[Metric.KID].spread)
    assert (
        "FID of 4 pictures, fewer than 2048, is biased upward"
        in scores.row(ProtocolName.CORRECTED).cells[Metric.FID].note
    )


def test_features_are_computed_once_and_found_again(
    small_store: Store, scored: tuple[Path, FeatureSource, Scores]
) -> None:
    run, source, scores = scored
    fresh = Seeded()
    again = score_run(run, None, small_store, Split.TEST, "tile", replace(source, networks=fresh))
    assert fresh.runs == 0
    assert repr(again) == repr(scores)
    other = Seeded(digest="other weights")
    score_run(run, None, small_store, Split.TEST, "tile", replace(source, networks=other))
    assert other.runs > 4 * 6 * 3


def test_a_damaged_cache_file_is_computed_again(small_store: Store, tmp_path: Path) -> None:
    pictures = [small_store.picture(Split.TEST, "tile", Stain.IHC, place) for place in range(4)]
    images, networks = images_of(ProtocolName.CORRECTED, {REAL: pictures}), Seeded()
    source = FeatureSource(networks=networks, cache=tmp_path)

    def read() -> NDArray[np.floating]:
        return compute_vectors(FeatureSpec.PHV, images, source, "w")[ProtocolName.CORRECTED, REAL][-1]

    first, (file,) = read(), list(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:-100])
    np.testing.assert_array_equal(read(), first)
    assert networks.runs == 2 * 4
    np.testing.assert_array_equal(read(), first)
    assert networks.runs == 2 * 4


def test_an_equal_picture_goes_through_a_network_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    varied = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(5)]
    constant = [np.full((64, 64, 3), 200, np.uint8)] * 5
    name, networks = ProtocolName.CORRECTED, Seeded()
    images = images_of(name, {REAL: varied, "same": varied, "constant": constant})
    found = measure_lpips(Trunk.ALEX, images, FeatureSource(networks=networks, cache=tmp_path), "w")
    assert networks.runs == 5 + 1
    assert list(found) == [(name, "same"), (name, "constant")]
    np.testing.assert_array_equal(found[name, "same"], 0)
    assert (found[name, "constant"] > 0).all()


def test_the_order_of_pictures_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one, two = ([rng.integers(low, 256, (64, 64, 3), dtype=np.uint8) for _ in range(10)] for low in (0, 60))
    order = rng.permutation(10)
    name, source, found = ProtocolName.PUBLISHED, FeatureSource(networks=Seeded(), cache=tmp_path), []
    for pick in (range(10), order):
        images = images_of(name, {REAL: [two[place] for place in pick], FAKE: [one[place] for place in pick]})
        vectors = compute_vectors(FeatureSpec.FID, images, source, "w")
        products = Products.of(vectors[name, FAKE][-1], vectors[name, REAL][-1])
        found.append((products.fid(ONES), products.kid(ONES)))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_scores_with_every_number_read_back_equal(scored: tuple[Path, FeatureSource, Scores]) -> None:
    run, _, scores = scored
    write_scores(scores, run / "predictions" / "test" / "tile")
    assert repr(read_scores(run, Split.TEST, "tile")) == repr(scores)


def test_the_curve_gets_worse_the_farther_the_real_picture_is_moved(scored: tuple[Path, FeatureSource, Scores]) -> None:
    curve = scored[2].misregistration
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
    shifted = [padded[top : top + 256, left : left + 256] for top in range(3) for left in range(3)]
    return np.asarray(np.mean(shifted, axis=0).round(), dtype=np.uint8)


@needs_shared
def test_on_real_tissue_identical_is_nearer_than_blurred_and_that_than_another_stain(tmp_path: Path) -> None:
    """By a SqueezeNet trained on ImageNet instead of every network; LPIPS without heads, PHV with a threshold for the
    features of this network, which are a thousand times ResNet-50's."""
    networks = Seeded(torch.load(SQUEEZENET, weights_only=True), digest="trained")
    names = sorted(file.name for file in (PAIRS / "IHC").iterdir())[::4]
    he, ihc = ([read_picture(PAIRS / stain / name) for name in names] for stain in ("HE", "IHC"))
    blurred = [blur(picture) for picture in ihc]
    name, source = ProtocolName.PUBLISHED, FeatureSource(networks=networks, cache=tmp_path)
    rows = {"identical": ihc, "blurred": blurred, "H&E": he}
    images = images_of(name, {REAL: ihc, **rows})
    assert len(names) == 10
    vectors = compute_vectors(FeatureSpec.FID, images, source, "w")
    lpips = measure_lpips(Trunk.VGG, images, source, "w")
    real = vectors[name, REAL]
    found: dict[str, list[float]] = {"lpips": [], "phv": [], "fid": [], "kid": [], "ssim": [], "psnr": []}
    for row, pictures in rows.items():
        products = Products.of(vectors[name, row][-1], real[-1])
        found["fid"].append(products.fid(ONES))
        found["kid"].append(products.kid(ONES))
        found["phv"].append(float(phv(vectors[name, row], real, 5.0).mean()))
        found["ssim"].append(-float(np.mean([ssim(a, b) for a, b in zip(pictures, ihc, strict=True)])))
        found["psnr"].append(-float(np.mean([psnr(a, b) for a, b in zip(pictures, ihc, strict=True)])))
        found["lpips"].append(float(lpips[name, row].mean()))
    assert all(first < second < third for first, second, third in found.values()), found
    assert abs(found["fid"][0]) < 1e-6
    assert found["kid"][0] <= 0
    assert found["lpips"][0] == found["phv"][0] == 0


def test_features_are_found_by_name_whatever_the_order_of_the_sets(
    small_store: Store, scored: tuple[Path, FeatureSource, Scores], tmp_path: Path
) -> None:
    run, source, scores = scored
    images, standing = gather(run, None, small_store, Split.TEST, "tile", tmp_path)
    backwards = replace(images, reads=dict(reversed([*images.reads.items()])))
    fresh = FeatureSource(networks=Seeded(), cache=tmp_path)
    found = [extract(images, source), extract(backwards, fresh)]
    for spec in FeatureSpec:
        one, two = (features.vectors[spec] for features in found)
        assert one.keys() == two.keys() == {name for name in images.reads if spec in PROTOCOLS[name[0]].specs}
        for name in one:
            for stage, other in zip(one[name], two[name], strict=True):
                np.testing.assert_allclose(other, stage, rtol=1e-5, atol=1e-6)
    for trunk in Trunk:
        for name in images.rows:
            np.testing.assert_allclose(found[1].lpips[trunk][name], found[0].lpips[trunk][name], rtol=1e-5, atol=1e-6)
    samples = resample([target.slide for target in images.targets])
    rows = compute_rows(images.rows, score_images(images, standing, found[1]), found[1], samples)
    for protocol, row in images.rows:
        for metric, cell in rows[protocol][row].cells.items():
            assert cell.value == pytest.approx(scores.row(protocol, row).cells[metric].value, rel=1e-3, abs=1e-4)


def test_what_has_no_weights_is_absent(small_store: Store, scored: tuple[Path, FeatureSource, Scores]) -> None:
    images, _ = gather(scored[0], None, small_store, Split.TEST, "tile", scored[1].cache)
    nothing = extract(images, without_weights(scored[0].parent))
    assert (dict(nothing.vectors), dict(nothing.lpips)) == ({}, {})
