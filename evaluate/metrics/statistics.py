"""Statistics over pictures: bootstrap intervals and paired tests, both over slides.

Tiles of one slide look alike, so slides are resampled and their signs flipped, never single tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from evaluate.columns import Cell

RESAMPLES = 1000  # bootstrap samples of the slides, for the interval of a mean
COSTLY_RESAMPLES = 200  # the first of them, for FID, KID and correlations, which take longer
LEVEL = 0.95
SIGN_PATTERNS = 9999  # of a paired test; all of them where there are no more
SEED = 0
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Both ends of a 95 % interval, or NaN and the reason."""

    low: float = nan
    high: float = nan
    absent: str = ""


def resample(slides: Sequence[str], resamples: int = RESAMPLES) -> list[Counts]:
    """Bootstrap samples of the slides: how often each picture counts in each, [N]; as many slides, with replacement.

    `slides` are those of the pictures. The first of many samples are the same as few. Empty with fewer than two slides.
    """
    names, place = np.unique(np.asarray(slides), return_inverse=True)
    if len(names) < 2:
        return []
    drawn = np.random.default_rng(SEED).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return [counts[place] for counts in drawn]


def interval(
    estimate: float, statistic: Callable[[Counts], float], samples: Sequence[Counts], *, centred: bool = False
) -> Interval:
    """The percentile interval of a statistic over bootstrap `samples`; `centred` moves it onto the estimate.

    A bootstrap sample has fewer different pictures, which makes FID larger: there only the width can be used.
    """
    if not samples:
        return Interval(absent="there is one slide, and an interval needs at least 2")
    if not isfinite(estimate):
        return Interval(absent="the number is not finite")
    values = np.array([statistic(counts) for counts in samples])
    values = values[np.isfinite(values)]
    if len(values) < len(samples) / 2:
        return Interval(absent="undefined in most bootstrap samples of the slides")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    shift = estimate - float(values.mean()) if centred else 0.0
    return Interval(low=float(low) + shift, high=float(high) + shift)


def mean_interval(values: Sequence[float], samples: Sequence[Counts]) -> Interval:
    """The interval of a mean over pictures."""
    array = np.asarray(values, dtype=np.float64)
    return interval(float(array.mean()), lambda counts: float(counts @ array / counts.sum()), samples)


def mean_cell(values: Sequence[float], samples: Sequence[Counts]) -> Cell:
    """A mean over pictures with its interval."""
    return as_cell(float(np.mean(values)), mean_interval(values, samples))


def as_cell(value: float, within: Interval, note: str = "", spread: float = nan) -> Cell:
    """A number with its interval, and why there is none."""
    notes = "; ".join(text for text in (note, f"no interval: {within.absent}" if within.absent else "") if text)
    return Cell(value=value, low=within.low, high=within.high, spread=spread, note=notes)


def paired_test(first: Sequence[float], second: Sequence[float], slides: Sequence[str]) -> float:
    """The p value of a paired permutation test of the mean difference; NaN with fewer than two slides.

    The differences of all pictures of a slide change sign together: all sign patterns, or 9999 random ones. With S
    slides p is at least 2^(1-S), so fewer than six slides never give a p below 0.05.
    """
    names, place = np.unique(np.asarray(slides), return_inverse=True)
    difference = np.subtract(first, second)
    if len(names) < 2 or not np.isfinite(difference).all():
        return nan
    sums = np.bincount(place, weights=difference)
    if not sums.any():
        return 1.0
    done = permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=SIGN_PATTERNS, rng=np.random.default_rng(SEED)
    )
    return float(done.pvalue)


def holm(probabilities: Sequence[float]) -> list[float]:
    """Holm's correction of p values for multiple tests; NaN stays NaN and does not count as a test.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    known = sorted((value, place) for place, value in enumerate(probabilities) if isfinite(value))
    corrected, largest = [nan] * len(probabilities), 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        corrected[place] = largest
    return corrected
