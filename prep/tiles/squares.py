"""Which squares are cut from a picture: a grid that starts at the top left, and a rule for the rest at the far edges.

Pure functions of sizes; all lengths are px of the picture. No pixel is ever made up beyond an edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

from prep.settings import Edge, Layout, PrepSettings, how_to_set
from store.schema import Box

SLACK = 16  # by which the H&E and the IHC picture of one field may differ in height and in width


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """Squares of `side` px, `stride` px apart; of side 0 where each picture is one tile.

    `halves` says whether a picture that holds both stains may have any size: it is then cut in the middle.
    `name_stride` is how far pictures that are called `<slide>_<row>_<column>` are apart, 0 where it is not known.
    """

    side: int
    stride: int
    edge: Edge
    halves: bool
    name_stride: int = 0

    def __bool__(self) -> bool:
        return self.side > 0


WHOLE = Cutting(side=0, stride=0, edge=Edge.DROP, halves=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What both pictures of a pair show, from their top left, and how many px the larger of the two is larger."""

    height: int
    width: int
    uneven: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What was cut: how many squares of how many pairs of pictures, and the share of their area that is in none.

    `uneven` of these pairs differ in size, by at most `slack` px.
    """

    cutting: Cutting
    squares: int
    pictures: int
    left_out: float
    uneven: int
    slack: int


def cutting_of(settings: PrepSettings) -> Cutting:
    """How the settings cut pictures."""
    halves = settings.layout is Layout.SIDE_BY_SIDE
    if not settings.tile_side:
        return replace(WHOLE, halves=halves, name_stride=settings.name_stride)
    return Cutting(
        side=settings.tile_side,
        stride=settings.stride or settings.tile_side,
        edge=settings.edge,
        halves=halves,
        name_stride=settings.name_stride,
    )


def plan_squares(cutting: Cutting, field: Field) -> tuple[Box, ...]:
    """The squares of a field from the top left, row after row; none if it is smaller than a square.

    >>> cutting = Cutting(side=4, stride=4, edge=Edge.SHIFT, halves=False)
    >>> [(box.top, box.left) for box in plan_squares(cutting, Field(height=4, width=10, uneven=0))]
    [(0, 0), (0, 4), (0, 6)]
    """
    corners = product(_starts(field.height, cutting), _starts(field.width, cutting))
    return tuple(Box(top=top, left=left, side=cutting.side) for top, left in corners)


def name_square(picture: str, box: Box) -> str:
    """The name of a square: that of its picture with the place of its corner in it.

    >>> name_square("slide7", Box(top=0, left=512, side=256))
    'slide7_y0_x512'
    """
    return f"{picture}_y{box.top}_x{box.left}"


def count_cut(cutting: Cutting, fields: Sequence[Field], *, squares: int) -> Cut:
    """What was cut from pairs of pictures that have these fields in common."""
    area = sum(field.height * field.width for field in fields)
    covered = sum(_covered(plan_squares(cutting, field)) for field in fields) if cutting else area
    return Cut(
        cutting=cutting,
        squares=squares,
        pictures=len(fields),
        left_out=1 - covered / area if area else 0.0,
        uneven=sum(field.uneven > 0 for field in fields),
        slack=max((field.uneven for field in fields), default=0),
    )


def describe_cut(cut: Cut, *, paired: bool = True) -> str:
    """How many squares of how many pictures there are, and what is left out, for a person."""
    what = "pairs of pictures" if paired else "pictures"
    cutting = cut.cutting
    apart = "" if cutting.stride == cutting.side else f", {cutting.stride} px apart"
    said = (
        f"{cut.squares} squares of {cutting.side} px{apart} cut from {cut.pictures} {what}; "
        f"edge={cutting.edge}, {cut.left_out:.1%} of their area is in no square"
    )
    if cutting.edge is Edge.DROP and cut.left_out and cutting.stride <= cutting.side:
        said += f" (none with {how_to_set('edge=shift')})"
    if cut.uneven:
        said += (
            f"; of {cut.uneven} pairs the H&E and the IHC picture differ by up to {cut.slack} px, and what both have "
            "from the top left is used"
        )
    return said


def _starts(length: int, cutting: Cutting) -> list[int]:
    """Where squares begin along one side of a picture."""
    last = length - cutting.side
    starts = list(range(0, last + 1, cutting.stride))
    if cutting.edge is Edge.SHIFT and starts and starts[-1] < last:
        starts.append(last)
    return starts


def _covered(boxes: Sequence[Box]) -> int:
    """The area of the squares of one grid: what rows cover times what columns cover."""
    if not boxes:
        return 0
    side = boxes[0].side
    return _length({box.top for box in boxes}, side) * _length({box.left for box in boxes}, side)


def _length(starts: Iterable[int], side: int) -> int:
    """How much of a line intervals of one length cover.

    >>> _length([0, 4, 6], 4)
    10
    """
    return side + sum(min(side, after - before) for before, after in pairwise(sorted(starts)))
