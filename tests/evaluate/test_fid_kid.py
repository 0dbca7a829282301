"""FID and KID against the published implementations, and against values that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch_fidelity import metric_fid, metric_kid

from evaluate.metrics.fid_kid import Products, fid, kid, kid_cell, mmd
from evaluate.metrics.statistics import resample
from evaluate.protocol import CORRECTED, PUBLISHED
from store.schema import RunError
from tests.support.places import GOLDEN

NUMBERS = GOLDEN / "distribution_metrics.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[np.float64]]:
    with np.load(NUMBERS) as file:
        return {name: file[name] for name in file.files}


def test_fid_is_the_published_one(golden: dict[str, NDArray[np.float64]]) -> None:
    value = fid(golden["kid_features_a"], golden["kid_features_b"])
    assert value == pytest.approx(float(golden["fid"]), rel=1e-6)


def test_mmd_is_the_published_one(golden: dict[str, NDArray[np.float64]]) -> None:
    value = mmd(golden["kid_features_a"][:260], golden["kid_features_b"])
    assert value == pytest.approx(float(golden["kid_full_260"]), rel=1e-6)


def test_kid_is_the_published_one_subset_by_subset(golden: dict[str, NDArray[np.float64]]) -> None:
    """The published function draws its first argument first, and its caller passes the real pictures there.

    With the sets exchanged every subset is another one, although each single estimate is symmetric.
    """
    first, second = golden["kid_features_a"], golden["kid_features_b"]
    (seed,) = (int(value) for name, value in golden.items() if "seed" in name and value.ndim == 0)
    values = kid(fake=second, real=first, generator=np.random.RandomState(seed))
    np.testing.assert_allclose(values, golden["kid_100x100_seeded"], rtol=1e-6)
    exchanged = kid(fake=first, real=second, generator=np.random.RandomState(seed))
    assert (np.abs(exchanged / golden["kid_100x100_seeded"] - 1) > 1e-6).all()


@pytest.mark.parametrize(("pictures", "kept"), [(50, 50), (977, 950), (130, 100), (1000, 1000), (30, 30)])
def test_published_kid_is_of_whole_batches_of_50(pictures: int, kept: int) -> None:
    """The remainder changes neither number, deviation nor interval; `corrected` has every picture."""
    rng = np.random.default_rng(0)
    fake, real = rng.normal(size=(2, pictures, 8)) + np.array([0, 0.5])[:, None, None]
    samples = resample([str(place % 7) for place in range(pictures)])[:20]
    cell = kid_cell(fake, real, PUBLISHED, samples)
    fake[kept:] += 100
    other = kid_cell(fake, real, PUBLISHED, samples)
    assert (other.value, other.spread, other.low, other.high) == (cell.value, cell.spread, cell.low, cell.high)
    drawn = 1000 * kid(fake[:kept], real[:kept], np.random.RandomState(PUBLISHED.kid_seed))
    assert (cell.value, cell.spread) == pytest.approx((drawn.mean(), drawn.std()))
    said = {977: "without the last 27 of 977", 130: "without the last 30 of 130", 30: "of 30 pictures: ASP's"}
    assert said.get(pictures, "") in cell.note
    assert ("KID without" in cell.note) == (kept < pictures)
    assert "KID of" not in cell.note or pictures < 50
    if kept < pictures:
        corrected = kid_cell(fake, real, CORRECTED, samples)
        assert corrected.value > 10 * cell.value
        assert not corrected.note


def test_they_are_torch_fidelitys_on_the_same_features(golden: dict[str, NDArray[np.float64]]) -> None:
    """Torch-fidelity takes the root by eigenvalues, and another order of its draws: so the unbiased estimate of all."""
    one, two = (torch.from_numpy(golden[f"kid_features_{name}"]).double() for name in "ab")
    statistics = [metric_fid.fid_features_to_statistics(features) for features in (one, two)]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)[metric_fid.KEY_METRIC_FID]
    assert fid(one.numpy(), two.numpy()) == pytest.approx(theirs, rel=1e-6)
    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None}
    theirs = metric_kid.kernel_mmd(one[:260].numpy(), two.numpy(), **kernel, kid_kernel_poly_coef0=1.0)
    assert mmd(one[:260].numpy(), two.numpy()) == pytest.approx(float(theirs), rel=1e-6)


def test_products_give_the_same_fid_and_kid(golden: dict[str, NDArray[np.float64]]) -> None:
    one, two = golden["kid_features_a"][:260], golden["kid_features_b"]
    products, ones = Products.of(one, two), np.ones(260, dtype=np.int64)
    assert products.fid(ones) == pytest.approx(fid(one, two), rel=1e-6)
    assert products.kid(ones) == pytest.approx(mmd(one, two), rel=1e-9)


def test_identical_sets_have_no_distance_and_order_does_not_count() -> None:
    """Of fewer pictures than features too, where a matrix square root is off by rounding of a singular matrix."""
    rng = np.random.default_rng(0)
    one, two, ones = rng.normal(3, 2, (40, 2048)), rng.normal(3, 2, (40, 2048)), np.ones(40, dtype=np.int64)
    same = Products.of(one, one)
    assert abs(same.fid(ones)) < 1e-6
    assert same.kid(ones) <= 0
    order = rng.permutation(40)
    products, shuffled = Products.of(one, two), Products.of(one[order], two[order[::-1]])
    assert shuffled.fid(ones) == pytest.approx(products.fid(ones), rel=1e-9)
    assert shuffled.kid(ones) == pytest.approx(products.kid(ones), rel=1e-6)
    assert products.fid(ones) > 1


def test_a_picture_that_counts_twice_is_there_twice() -> None:
    """FID: as if it stood there twice. KID: never with its own copy, so a plain loop over different pictures."""
    one, two = np.random.default_rng(0).normal(size=(2, 6, 4)) + np.array([0, 1])[:, None, None]
    counts = np.array([2, 0, 1, 1, 3, 1])
    products = Products.of(one, two)
    assert products.fid(counts) == pytest.approx(fid(one.repeat(counts, axis=0), two.repeat(counts, axis=0)), rel=1e-6)
    drawn, within, pairs = np.repeat(np.arange(6), counts), 0.0, 0
    for i in drawn:
        for j in drawn:
            if i != j:
                within += (one[i] @ one[j] / 4 + 1) ** 3 + (two[i] @ two[j] / 4 + 1) ** 3
                pairs += 1
    between = np.mean([(one[i] @ two[j] / 4 + 1) ** 3 for i in drawn for j in drawn])
    assert products.kid(counts) == pytest.approx(within / pairs - 2 * between, rel=1e-9)
    assert np.isnan(products.kid(np.array([0, 0, 6, 0, 0, 0])))


def test_fid_of_gaussians_is_its_formula() -> None:
    """Means 3 apart and deviations of 1 and 2 in each of two directions: 2 (3² + (1 - 2)²)."""
    generator = np.random.default_rng(0)
    one, two = generator.normal(0, 1, (200_000, 2)), generator.normal(3, 2, (200_000, 2))
    assert fid(one, two) == pytest.approx(20, rel=0.01)
    assert fid(one, one) == pytest.approx(0, abs=1e-9)


def test_fid_of_fewer_pictures_than_features_is_still_a_number() -> None:
    one, two = np.random.default_rng(0).normal(size=(2, 10, 64))
    assert np.isfinite(fid(one, two))
    assert fid(one, one) == pytest.approx(0, abs=1e-4)


def test_mmd_is_unbiased() -> None:
    """Of two halves of one distribution it is 0 on average, and so negative about half of the time."""
    generator = np.random.default_rng(0)
    values = [mmd(*generator.normal(size=(2, 30, 8))) for _ in range(500)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 500**0.5
    assert 0.3 < np.mean(np.array(values) < 0) < 0.8


def test_a_subset_as_large_as_the_sets_has_no_deviation() -> None:
    one, two = np.random.default_rng(0).normal(size=(2, 40, 8))
    values = kid(one, two + 1, np.random.default_rng(1), subset=1000)
    assert values.std() == pytest.approx(0, abs=1e-12)
    assert values[0] == pytest.approx(mmd(one, two + 1))


@pytest.mark.parametrize(
    ("fake", "real", "message"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), r"\(5, 3\) and \(5, 4\): both must be \[N,D\] of one network"),
        (np.zeros((1, 3)), np.zeros((5, 3)), "1 and 5 pictures: a distribution needs at least 2"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(fake: NDArray[np.float64], real: NDArray[np.float64], message: str) -> None:
    for compare in (fid, mmd, lambda one, two: kid(one, two, np.random.default_rng(0))):
        with pytest.raises(RunError, match=message):
            compare(fake, real)
    with pytest.raises(RunError, match="5 and 6 pictures: this estimate needs equally many"):
        mmd(np.zeros((5, 3)), np.zeros((6, 3)))
