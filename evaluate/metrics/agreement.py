"""How well translated and real pictures agree on DAB: correlations, slope, bias, errors at three zooms, with intervals.

A correlation does not see that all densities are halved: the slope of the regression line and the bias do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from evaluate.columns import Agreement, Cell
from evaluate.metrics.dab import ZOOMS, DabStats
from evaluate.metrics.statistics import COSTLY_RESAMPLES, Counts, as_cell, interval, mean_cell

Numbers = Sequence[float] | NDArray[np.float64]


def agreement_cells(
    fake: Sequence[DabStats], real: Sequence[DabStats], samples: Sequence[Counts]
) -> dict[str, dict[Agreement, Cell]]:
    """Agreement on DAB at each zoom: of whole pictures (x1), of their quarters (x2), of their sixteenths (x4)."""
    return {f"x{zoom}": _agreement(fake, real, zoom, samples) for zoom in ZOOMS}


def _agreement(
    fake: Sequence[DabStats], real: Sequence[DabStats], zoom: int, samples: Sequence[Counts]
) -> dict[Agreement, Cell]:
    """Correlations and slope over all parts; bias and errors are means over a picture's parts, then over pictures."""
    one, two = (np.stack([picture.part_density[zoom] for picture in side]) for side in (fake, real))  # [N, zoom²]
    positive = [np.stack([picture.part_positive[zoom] for picture in side]) for side in (fake, real)]
    relative = np.array([relative_error(*both) for both in zip(one.tolist(), two.tolist(), strict=True)])
    errors = {
        Agreement.BIAS: (one - two).mean(axis=1),
        Agreement.ERROR: np.abs(one - two).mean(axis=1),
        Agreement.RELATIVE: relative.mean(axis=1),
        Agreement.POSITIVE: np.abs(positive[0] - positive[1]).mean(axis=1),
    }
    cells = {
        Agreement.SPEARMAN: _correlation(spearman, one, two, samples),
        Agreement.PEARSON: _correlation(pearson, one, two, samples),
        Agreement.SLOPE: _correlation(slope, one, two, samples),
    }
    return cells | {name: mean_cell(values.tolist(), samples) for name, values in errors.items()}


def _correlation(
    correlate: Callable[[Numbers, Numbers], float],
    fake: NDArray[np.float64],
    real: NDArray[np.float64],
    samples: Sequence[Counts],
) -> Cell:
    """The correlation or slope over all parts of all pictures, [N, parts] each; real ones are its first argument."""

    def among(counts: Counts) -> float:
        one, two = (np.repeat(side, counts, axis=0).ravel() for side in (real, fake))
        return correlate(one, two)

    estimate = among(np.ones(len(fake), dtype=np.int64))
    return as_cell(estimate, interval(estimate, among, samples[:COSTLY_RESAMPLES]))


def spearman(first: Numbers, second: Numbers) -> float:
    """Rank correlation, -1 to 1; NaN where it is undefined: fewer than two values, or one side constant.

    >>> spearman([1, 2, 3], [10, 20, 25]), spearman([1, 2, 3], [5, 5, 5])
    (1.0, nan)
    """
    return nan if _undefined(first, second) else float(spearmanr(first, second).statistic)


def pearson(first: Numbers, second: Numbers) -> float:
    """Linear correlation, -1 to 1; NaN where it is undefined, as in `spearman`.

    >>> round(pearson([1, 2, 3], [10, 20, 25]), 4), pearson([1, 2, 3], [5, 5, 5])
    (0.982, nan)
    """
    return nan if _undefined(first, second) else float(np.corrcoef(first, second)[0, 1])


def slope(real: Numbers, fake: Numbers) -> float:
    """The slope of the least squares line of `fake` on `real`: 1 is right, below 1 `fake` is flatter.

    NaN where it is undefined: fewer than two values, or all real ones equal.

    >>> round(slope([1, 2, 3], [0.5, 1.0, 1.5]), 4), slope([1, 2], [3, 3]), slope([2, 2], [1, 3])
    (0.5, 0.0, nan)
    """
    if len(real) < 2 or _constant(real):
        return nan
    away = np.subtract(real, np.mean(real))
    return float(away @ np.subtract(fake, np.mean(fake)) / (away @ away))


def relative_error(fake: Sequence[float], real: Sequence[float]) -> list[float]:
    """|fake - real| / real of each picture; NaN where the real one has no DAB.

    >>> relative_error([0.75, 0.1], [0.5, 0.0])
    [0.5, nan]
    """
    return [abs(one - two) / two if two > 0 else nan for one, two in zip(fake, real, strict=True)]


def _undefined(first: Numbers, second: Numbers) -> bool:
    return len(first) < 2 or _constant(first) or _constant(second)


def _constant(values: Numbers) -> bool:
    return bool((np.asarray(values) == values[0]).all())
