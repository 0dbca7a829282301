"""How far the pairs of a table are apart, in a few numbers. Distances are px of the tiles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from statistics import median

from store.pairs.table import Pair, Registration

STEPS = (1, 2, 5, 10, 20)  # px
SURE = 0.5  # confidence from which an estimate is more probably right than wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifted:
    """A pair whose shift was measured: its id and the estimate."""

    id: str
    registration: Registration


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """The measured shifts of `pairs` pairs; `doubtful` of them have a confidence below SURE and count in nothing else.

    `within` is how many of the others are at most so many px apart, for each of STEPS. `worst` is the largest of them;
    median, one in 20 and worst are None if there is none.
    """

    pairs: int
    doubtful: int
    median: float | None
    one_in_20: float | None
    worst: Shifted | None
    within: dict[int, int]

    @property
    def sure(self) -> int:
        """How many estimates count."""
        return self.pairs - self.doubtful


def summarise_shifts(pairs: Iterable[Pair]) -> Shifts | None:
    """The shifts of the pairs that were measured, or None if none was.

    >>> apart = Pair(id="a", slide="s", he="a.png", ihc="b.png", he_digest="", ihc_digest="",
    ...     registration=Registration(down=3, right=-4, percent=90))
    >>> summarise_shifts([apart]).median
    5.0
    """
    measured = [Shifted(id=pair.id, registration=pair.registration) for pair in pairs if pair.registration]
    if not measured:
        return None
    sure = sorted(
        (one for one in measured if one.registration.confidence >= SURE),
        key=lambda one: (one.registration.distance, one.id),
    )
    distances = [one.registration.distance for one in sure]
    return Shifts(
        pairs=len(measured),
        doubtful=len(measured) - len(sure),
        median=median(distances) if sure else None,
        one_in_20=distances[ceil(0.95 * len(sure)) - 1] if sure else None,
        worst=sure[-1] if sure else None,
        within={step: sum(distance <= step for distance in distances) for step in STEPS},
    )


def describe_shifts(shifts: Shifts) -> str:
    """The numbers in one line for a person."""
    pairs = f"{shifts.pairs} {'pair' if shifts.pairs == 1 else 'pairs'}"
    doubtful = f"; {shifts.doubtful} of {pairs} with a confidence below {SURE:g}" if shifts.doubtful else f"; {pairs}"
    if shifts.worst is None or shifts.median is None:
        return f"no estimate can be trusted{doubtful}"
    worst = shifts.worst.registration
    return (
        f"median {shifts.median:.1f} px, worst {worst.distance:.1f} px ({shifts.worst.id}: {worst.down:+d} down, "
        f"{worst.right:+d} right){doubtful}"
    )
