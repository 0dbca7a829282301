"""How far the pairs of a table are apart, in a few numbers. Distances are px of the tiles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil
from statistics import median

from store.pairs.table import Pair, Registration

STEPS = (1, 2, 5, 10, 20)  # px
NOT_AGAIN = "and what is left is not measured again"
SURE = 0.5  # confidence from which an estimate is more probably right than wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifted:
    """A pair whose shift was measured: its id and the estimate, or what is left of it."""

    id: str
    registration: Registration


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """The measured shifts of `pairs` pairs; `doubtful` of them have a confidence below SURE and count in nothing else.

    `within` is how many of the others are at most so many px apart, for each of STEPS. `worst` is the largest of them;
    median, one in 20 and worst are None if there is none. `moved` is how many of all had their IHC cut elsewhere.
    """

    pairs: int
    doubtful: int
    median: float | None
    one_in_20: float | None
    worst: Shifted | None
    within: dict[int, int]
    moved: int = 0

    @property
    def sure(self) -> int:
        """How many estimates count."""
        return self.pairs - self.doubtful


def left_over(pair: Pair) -> Registration | None:
    """What is left of the measured shift of a pair once its tiles are cut: its IHC may be cut where the H&E is shown.

    >>> from store.schema import Box
    >>> moved = Pair(id="a", slide="s", he="a.png", ihc="b.png", he_digest="", ihc_digest="",
    ...     he_box=Box(top=5, left=5, side=64), ihc_box=Box(top=8, left=1, side=64),
    ...     registration=Registration(down=3, right=-4, percent=90))
    >>> left_over(moved).distance
    0.0
    """
    estimate, he, ihc = pair.registration, pair.he_box, pair.ihc_box
    if estimate is None or he is None or ihc is None:
        return estimate
    down, right = estimate.down - (ihc.top - he.top), estimate.right - (ihc.left - he.left)
    return replace(estimate, down=down, right=right)


def summarise_shifts(pairs: Iterable[Pair], *, as_delivered: bool = False) -> Shifts | None:
    """The shifts that are left in the tiles of the pairs that were measured, or None if none was.

    `as_delivered` takes those that were measured, before any IHC was moved.

    >>> apart = Pair(id="a", slide="s", he="a.png", ihc="b.png", he_digest="", ihc_digest="",
    ...     registration=Registration(down=3, right=-4, percent=90))
    >>> summarise_shifts([apart]).median
    5.0
    """
    pairs = list(pairs)
    shifts = ((pair.id, pair.registration if as_delivered else left_over(pair)) for pair in pairs)
    measured = [Shifted(id=name, registration=estimate) for name, estimate in shifts if estimate]
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
        moved=0 if as_delivered else sum(left_over(pair) != pair.registration for pair in pairs),
    )


def describe_shifts(shifts: Shifts) -> str:
    """The numbers in one line for a person."""
    pairs = f"{shifts.pairs} {'pair' if shifts.pairs == 1 else 'pairs'}"
    rest = f"; {shifts.doubtful} of {pairs} with a confidence below {SURE:g}" if shifts.doubtful else f"; {pairs}"
    rest += f"; the IHC of {shifts.moved} was moved by its estimate, {NOT_AGAIN}" if shifts.moved else ""
    if shifts.worst is None or shifts.median is None:
        return f"no estimate can be trusted{rest}"
    worst = shifts.worst.registration
    return (
        f"median {shifts.median:.1f} px, worst {worst.distance:.1f} px ({shifts.worst.id}: {worst.down:+d} down, "
        f"{worst.right:+d} right){rest}"
    )
