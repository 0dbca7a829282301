"""Which pairs are left out because of their measured shift, and where the IHC is cut so that it shows the same place.

Pure functions of measured shifts; lengths are px of the source pictures. No pixel is made up beyond an edge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from prep.settings import Align, PrepSettings
from store.pairs.shifts import SURE, Shifts
from store.pairs.table import Pair, Registration
from store.schema import Box

LEAST_RULE = 5  # px: a smaller max_shift would leave out what is no fault of a pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """What is done about shifts: whether they are measured, which pairs are left out, whether the IHC is moved."""

    measured: bool
    max_shift: int
    min_confidence: float
    align: Align

    def trusts(self, registration: Registration) -> bool:
        """Whether a pair may be left out as too far apart, or moved, because of an estimate."""
        return registration.confidence >= (self.min_confidence or SURE)

    def fault(self, registration: Registration) -> str:
        """Why a pair is left out; empty if it is not. An estimate that cannot be trusted is not held against it."""
        if registration.confidence < self.min_confidence:
            return (
                f"its shift is uncertain: {describe_estimate(registration)}, less than min_confidence = "
                f"{self.min_confidence:g}"
            )
        if self.max_shift and self.trusts(registration) and registration.distance > self.max_shift:
            return (
                f"its pictures are {registration.distance:.1f} px apart: {describe_estimate(registration)}, more than "
                f"max_shift = {self.max_shift} px"
            )
        return ""

    def shift(self, pair: Pair) -> tuple[int, int]:
        """How far the IHC of a pair is moved, down and right: not at all where the estimate cannot be trusted."""
        estimate = pair.registration
        if self.align is Align.NONE or estimate is None or not self.trusts(estimate):
            return 0, 0
        return estimate.down, estimate.right


UNMEASURED = Matching(measured=False, max_shift=0, min_confidence=0.0, align=Align.NONE)


def matching_of(settings: PrepSettings) -> Matching:
    """What the settings do about shifts."""
    return Matching(
        measured=settings.registers,
        max_shift=settings.max_shift,
        min_confidence=settings.min_confidence,
        align=settings.align,
    )


def describe_estimate(registration: Registration) -> str:
    """An estimate as a person says it."""
    return f"{registration.down:+d} down, {registration.right:+d} right, confidence {registration.confidence:.2f}"


def describe_rules(shifts: Shifts) -> str:
    """How many pairs the settings would leave out, for a few values of them.

    >>> describe_rules(Shifts(pairs=9, doubtful=2, median=3.0, one_in_20=9.0, worst=None, within={5: 4, 10: 7}))
    'max_shift=5 would leave out 3 pairs, 10: 0; min_confidence=0.5: 2'
    """
    first, *others = ((step, shifts.sure - count) for step, count in shifts.within.items() if step >= LEAST_RULE)
    pairs = f"{first[1]} {'pair' if first[1] == 1 else 'pairs'}"
    listed = ", ".join([f"max_shift={first[0]} would leave out {pairs}", *(f"{step}: {n}" for step, n in others)])
    return f"{listed}; min_confidence={SURE:g}: {shifts.doubtful}"


def move_square(pair: Pair, matching: Matching, height: int, width: int) -> Pair | str:
    """A pair of squares with the IHC square moved, or why it is left out: it would leave a picture of this size."""
    (down, right), box = matching.shift(pair), pair.ihc_box
    if box is None or (down, right) == (0, 0):
        return pair
    moved_top, moved_left = box.top + down, box.left + right
    if not (0 <= moved_top <= height - box.side and 0 <= moved_left <= width - box.side):
        return f"its IHC square, moved {down:+d} px down and {right:+d} px right (align = shift), leaves the picture"
    return replace(pair, ihc_box=Box(top=moved_top, left=moved_left, side=box.side))


def common_side(side: int, shifts: Iterable[tuple[int, int]]) -> int:
    """The largest square that tiles of `side` px have in common with their IHC under each of these shifts.

    >>> common_side(100, [(0, 0), (-3, 7)])
    93
    """
    return side - max((max(abs(down), abs(right)) for down, right in shifts), default=0)


def common_parts(length: int, shift: int) -> tuple[slice, slice]:
    """What H&E and IHC have in common along one axis under a shift.

    >>> common_parts(10, 3)
    (slice(0, 7, None), slice(3, 10, None))
    """
    return slice(max(-shift, 0), length - max(shift, 0)), slice(max(shift, 0), length - max(-shift, 0))


def move_whole(pair: Pair, shift: tuple[int, int], side: int, square: int) -> Pair:
    """A pair of tiles of `side` px as squares of `square` px that show one place, in the middle of what both show."""
    tops, lefts = (_middle(moved, side, square) for moved in shift)
    return replace(
        pair,
        he_box=Box(top=tops[0], left=lefts[0], side=square),
        ihc_box=Box(top=tops[1], left=lefts[1], side=square),
    )


def _middle(moved: int, side: int, square: int) -> tuple[int, int]:
    """Where the square begins in the H&E and in the IHC, along one side."""
    first = max(-moved, 0)
    start = first + (side - abs(moved) - square) // 2
    return start, start + moved
