"""How visible the borders of tiles are in a picture: steps across them, against steps one pixel beside them.

A step is the mean absolute difference of neighbouring pixels in grey levels (u8, RGB). The ratio of the mean step
across the borders to the mean of those one pixel beside them, on both sides, is 1.00 where nothing tells a border from
its surroundings. Its error is the standard error of a ratio of means over borders (Cochran, Sampling Techniques, 1977,
section 2.11), because the steps along one border depend on each other.

The control is the same ratio half a tile away, where no border is. Sides of tiles are multiples of 16 px, so that
the regular patterns of transposed convolutions, and the blocks and halved colours of a JPEG, meet both places alike: if
the control is not 1.00 either, it is these that one sees. A slide as its scanner saved it has 1.35 ± 0.02 and a control
of 1.37 ± 0.02 in tiles of 128 px (CMU-1-Small-Region.svs, JPEG, tissue alone), and no seam.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np

from store.images import PictureU8
from store.schema import FORBID_UNKNOWN
from store.slides.geometry import Grid, Rect

Place = tuple[int, int]  # row and column of a tile
MOST = 1000  # borders that are measured of one picture
REACH = 2  # px on each side of a border that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Border:
    """Where two neighbouring tiles of a grid meet: the second is `right` of the first, or below it."""

    first: Place
    second: Place

    @property
    def is_vertical(self) -> bool:
        """Whether the tiles are side by side."""
        return self.first[0] == self.second[0]

    def strip(self, grid: Grid, distance: int = 0) -> Rect | None:
        """The pixels on both sides of it, or of a line `distance` px further on; None where the second tile ends."""
        tile = grid.tile(*self.second)
        if distance + REACH > (tile.width if self.is_vertical else tile.height):
            return None
        if self.is_vertical:
            return Rect(top=tile.top, left=tile.left + distance - REACH, height=tile.height, width=2 * REACH)
        return Rect(top=tile.top + distance - REACH, left=tile.left, height=2 * REACH, width=tile.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Mean absolute steps at one line, in grey levels: across it, and beside it on both sides; of `pixels` pixels."""

    across: float
    beside: float
    pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The mean step across lines over that beside them, its standard error, and by how many grey levels they differ.

    None where nothing was measured or the surroundings are flat; the error is also None of a single line.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    value: float | None
    error: float | None
    excess: float
    borders: int

    def __str__(self) -> str:
        if self.value is None:
            return "none" if not self.borders else f"flat, {self.excess:+.2f} levels"
        return f"{self.value:.3f}" + ("" if self.error is None else f" ± {self.error:.3f}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """The border whose step is highest above that of its surroundings, in grey levels; row and column of its tiles."""

    __pydantic_config__ = FORBID_UNKNOWN

    first: Place
    second: Place
    across: float
    beside: float

    @property
    def excess(self) -> float:
        """Grey levels by which the step across is higher."""
        return self.across - self.beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """What the borders of a picture's tiles are like; `candidates` are those next to two tiles that were translated."""

    __pydantic_config__ = FORBID_UNKNOWN

    every: Ratio
    vertical: Ratio
    horizontal: Ratio
    control: Ratio
    worst: Worst
    candidates: int

    def __str__(self) -> str:
        of = "" if self.every.borders == self.candidates else f" of {self.candidates:,}"
        return (
            f"seams {self.every} (1.000: none) at {self.every.borders:,}{of} borders of tiles; "
            f"{self.control} where there is no border"
        )


def measure_seams(
    read: Callable[[Rect], PictureU8], grid: Grid, skipped: Set[Place] = frozenset(), most: int = MOST
) -> Seams | None:
    """The seams of a picture that is read in rectangles, at most `most` borders of it, spread evenly.

    None if no border lies between two tiles that were not skipped. Needs the memory of one strip of 4 px.
    """
    borders = list(plan_borders(grid, skipped))
    if not borders:
        return None
    chosen = [borders[number * len(borders) // min(most, len(borders))] for number in range(min(most, len(borders)))]
    steps = [_measure(read, grid, border, 0) for border in chosen]
    control = [_measure(read, grid, border, grid.side // 2) for border in chosen]
    found = [(border, one) for border, one in zip(chosen, steps, strict=True) if one]
    border, worst = max(found, key=lambda pair: pair[1].across - pair[1].beside)
    return Seams(
        every=ratio_of([one for _, one in found]),
        vertical=ratio_of([one for border, one in found if border.is_vertical]),
        horizontal=ratio_of([one for border, one in found if not border.is_vertical]),
        control=ratio_of([one for one in control if one]),
        worst=Worst(first=border.first, second=border.second, across=worst.across, beside=worst.beside),
        candidates=len(borders),
    )


def plan_borders(grid: Grid, skipped: Set[Place] = frozenset()) -> Iterator[Border]:
    """The borders between tiles that were not skipped, row by row; tiles at the edge may be too narrow to tell."""
    for row, column in grid.places():
        for second in ((row, column + 1), (row + 1, column)):
            border = Border(first=(row, column), second=second)
            is_inside = second[0] < grid.rows and second[1] < grid.columns
            if is_inside and not skipped & {border.first, second} and border.strip(grid):
                yield border


def steps_of(strip: PictureU8) -> Steps:
    """The steps at the line in the middle of a strip u8 [n,4,3], which runs along n.

    >>> steps_of(np.array([[[0], [1], [5], [6]]], np.uint8).repeat(3, axis=2))
    Steps(across=4.0, beside=1.0, pixels=1)
    """
    before, across, after = np.abs(np.diff(strip.astype(np.int16), axis=1)).mean(axis=(0, 2))
    return Steps(across=float(across), beside=float(before + after) / 2, pixels=strip.shape[0])


def ratio_of(steps: Sequence[Steps]) -> Ratio:
    """The ratio over many lines, each with the weight of its pixels."""
    weights = np.array([one.pixels for one in steps], np.float64) / max(1, sum(one.pixels for one in steps))
    across = weights * [one.across for one in steps]
    beside = weights * [one.beside for one in steps]
    excess = float((across - beside).sum())
    if not beside.sum():
        return Ratio(value=None, error=None, excess=excess, borders=len(steps))
    value, count = float(across.sum() / beside.sum()), len(steps)
    spread = float(((across - value * beside) ** 2).sum())
    error = math.sqrt(spread * count / (count - 1)) / float(beside.sum()) if count > 1 else None
    return Ratio(value=value, error=error, excess=excess, borders=count)


def _measure(read: Callable[[Rect], PictureU8], grid: Grid, border: Border, distance: int) -> Steps | None:
    """The steps at a border, or at a line that far behind it."""
    rect = border.strip(grid, distance)
    if rect is None:
        return None
    pixels = read(rect)
    return steps_of(pixels if border.is_vertical else pixels.swapaxes(0, 1))
