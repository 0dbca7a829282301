"""FID and KID against the published implementations, and against values that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluate.distribution import fid, kid, mmd
from store.schema import RunError

GOLDEN = Path(__file__).parent / "golden" / "distribution_metrics.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[np.float64]]:
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file.files}


def test_fid_is_the_published_one(golden: dict[str, NDArray[np.float64]]) -> None:
    value = fid(golden["kid_features_a"], golden["kid_features_b"])
    assert value == pytest.approx(float(golden["fid"]), rel=1e-5)


def test_mmd_is_the_published_one(golden: dict[str, NDArray[np.float64]]) -> None:
    value = mmd(golden["kid_features_a"][:260], golden["kid_features_b"])
    assert value == pytest.approx(float(golden["kid_full_260"]), rel=1e-5)


def test_kid_is_the_published_one_subset_by_subset(golden: dict[str, NDArray[np.float64]]) -> None:
    values = kid(golden["kid_features_a"], golden["kid_features_b"], np.random.RandomState(0))
    np.testing.assert_allclose(values, golden["kid_100x100_seeded"], rtol=1e-5)


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
