"""Which pictures of a split are shown, and measured where measuring all would take too long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spread_ranks(values: Sequence[float], count: int) -> list[int]:
    """The places of values at equally spaced ranks, lowest first.

    Given the DAB of the real pictures, the choice does not depend on the translations.

    >>> spread_ranks([0.5, 0.1, 0.4, 0.2, 0.3], 3)
    [1, 4, 0]
    """
    order = sorted(range(len(values)), key=lambda place: (values[place], place))
    ranks = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [order[rank] for rank in ranks]
