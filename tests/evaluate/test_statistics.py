"""Intervals and tests: known answers, and that slides are resampled, not tiles."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest

from evaluate.metrics.statistics import holm, interval, mean_interval, paired_test, resample


def test_bootstrap_samples_are_of_whole_slides() -> None:
    slides = ["a"] * 3 + ["b"] * 2 + ["c"]
    for counts in resample(slides):
        assert len({*counts[:3]}) == len({*counts[3:5]}) == 1
        assert counts[0] + counts[3] + counts[5] == 3
    assert resample(["a", "a"]) == []


def test_few_bootstrap_samples_are_the_first_of_many() -> None:
    """Rows of a table share one list of samples; what takes long uses its beginning."""
    slides = [str(n // 3) for n in range(30)]
    np.testing.assert_array_equal(resample(slides, 200), resample(slides, 1000)[:200])


def test_the_interval_of_a_mean_covers_it_in_95_of_100() -> None:
    """400 sets of 30 slides with 4 tiles each: expected 380 less what 30 slides cost; by tiles it would be some 240."""
    rng, covered, by_tile = np.random.default_rng(0), 0, 0
    slides = np.repeat(np.arange(30), 4)
    samples, tile_samples = resample([str(one) for one in slides]), resample([str(n) for n in range(120)])
    for _ in range(400):
        values = (rng.normal(0, 1, 30)[slides] + rng.normal(0, 0.2, 120)).tolist()
        within, narrow = mean_interval(values, samples), mean_interval(values, tile_samples)
        covered += within.low <= 0 <= within.high
        by_tile += narrow.low <= 0 <= narrow.high
    assert 0.90 < covered / 400 < 0.97
    assert by_tile / 400 < 0.75


def test_a_centred_interval_lies_about_the_estimate() -> None:
    samples = resample([str(n) for n in range(50)])
    values = np.random.default_rng(0).normal(size=50)

    def biased(counts: np.ndarray) -> float:
        return float(counts @ values / 50 + 7)

    plain, centred = interval(0.0, biased, samples), interval(0.0, biased, samples, centred=True)
    assert plain.low > 6
    assert centred.low < 0 < centred.high
    assert centred.high - centred.low == pytest.approx(plain.high - plain.low)


def test_an_interval_that_is_undefined_is_absent_with_a_reason() -> None:
    assert (
        "there is one slide, and an interval needs at least 2" in mean_interval([1.0, 2.0], resample(["a", "a"])).absent
    )
    assert interval(nan, lambda _: 0.0, resample(["a", "b"])).absent == "the number is not finite"
    assert (
        interval(0.0, lambda _: nan, resample(["a", "b"])).absent == "undefined in most bootstrap samples of the slides"
    )


def test_a_paired_test_counts_sign_patterns_of_slides() -> None:
    """Six slides, all differences positive: 2 of 64 patterns are as extreme. Ten tiles of a slide change nothing."""
    first, second = np.arange(1.0, 7), np.zeros(6)
    slides = [str(n) for n in range(6)]
    assert paired_test(first.tolist(), second.tolist(), slides) == pytest.approx(2 / 64)
    assert paired_test(first.repeat(10).tolist(), second.repeat(10).tolist(), np.repeat(slides, 10).tolist()) == (
        pytest.approx(2 / 64)
    )
    assert paired_test([1.0, 2.0], [1.0, 2.0], ["a", "b"]) == 1
    assert isnan(paired_test([1.0, 2.0], [0.0, 0.0], ["a", "a"]))


def test_a_paired_test_is_right_where_nothing_differs() -> None:
    rng = np.random.default_rng(0)
    slides = [str(n) for n in range(8)]
    found = [paired_test(rng.normal(size=8).tolist(), rng.normal(size=8).tolist(), slides) for _ in range(200)]
    assert np.mean(np.array(found) <= 0.05) < 0.1
    assert 0.4 < np.mean(found) < 0.6


def test_holm_is_the_step_down_correction() -> None:
    """Worked by hand: 0.005 x 4, 0.01 x 3, then 0.03 x 2 and 0.04 x 1 which may not be below it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    first, second = holm([nan, 0.01])
    assert isnan(first)
    assert second == 0.01
