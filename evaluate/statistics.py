"""What many numbers say together."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

from scipy.stats import spearmanr


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation, -1 to 1; NaN where it is undefined: fewer than two values, or one side all the same.

    >>> spearman([1, 2, 3], [10, 20, 25]), spearman([1, 2, 3], [5, 5, 5])
    (1.0, nan)
    """
    if len(first) < 2 or len(set(first)) == 1 or len(set(second)) == 1:
        return nan
    return float(spearmanr(first, second).statistic)
