"""What many numbers say together."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np
from scipy.stats import spearmanr


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation, -1 to 1; NaN where it is undefined: fewer than two values, or one side all the same.

    >>> spearman([1, 2, 3], [10, 20, 25]), spearman([1, 2, 3], [5, 5, 5])
    (1.0, nan)
    """
    return nan if _undefined(first, second) else float(spearmanr(first, second).statistic)


def pearson(first: Sequence[float], second: Sequence[float]) -> float:
    """Linear correlation, -1 to 1; NaN where it is undefined, as in `spearman`.

    >>> round(pearson([1, 2, 3], [10, 20, 25]), 4), pearson([1, 2, 3], [5, 5, 5])
    (0.982, nan)
    """
    return nan if _undefined(first, second) else float(np.corrcoef(first, second)[0, 1])


def _undefined(first: Sequence[float], second: Sequence[float]) -> bool:
    return len(first) < 2 or len(set(first)) == 1 or len(set(second)) == 1
