"""Which windows of a picture go through the generator, and how one is filled to sides that the generator takes. Pure.

A picture is divided into cores. The window of a core has a margin around it, so that the generator sees there what it
would see in the whole picture; only the core of what it makes is kept. Lengths are pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from store.images import PictureU8
from store.slides.geometry import Grid, Rect

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Which sides a generator takes: multiples of `multiple`, at least `least`, which is one itself."""

    multiple: int
    least: int

    def around(self, length: int) -> int:
        """The smallest side that holds `length`.

        >>> Sides(multiple=4, least=8).around(3), Sides(multiple=4, least=8).around(9)
        (8, 12)
        """
        return max(self.least, -(-length // self.multiple) * self.multiple)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What goes through the generator for a core: `read` of the picture, filled at the bottom and right to the sides.

    Core and `read` are in pixels of the picture.
    """

    core: Rect
    read: Rect
    height: int
    width: int

    @property
    def kept(self) -> tuple[slice, slice]:
        """Rows and columns of the core in the window."""
        top, left = self.core.top - self.read.top, self.core.left - self.read.left
        return slice(top, top + self.core.height), slice(left, left + self.core.width)

    @classmethod
    def whole(cls, height: int, width: int, sides: Sides) -> Window:
        """All of a picture."""
        return window_of(Rect(top=0, left=0, height=height, width=width), height, width, 0, sides)

    @property
    def seen(self) -> Rect:
        """What the generator sees, beyond the edge of the picture too."""
        return Rect(top=self.read.top, left=self.read.left, height=self.height, width=self.width)

    def fill(self, pixels: PictureU8) -> PictureU8:
        """`read` as u8 [H,W,3], mirrored at its bottom and right, as often as needed, to the sides of the window."""
        below, beside = self.height - pixels.shape[0], self.width - pixels.shape[1]
        if not (below or beside):
            return pixels
        return np.pad(pixels, ((0, below), (0, beside), (0, 0)), mode="reflect")


def window_of(core: Rect, height: int, width: int, overlap: int, sides: Sides) -> Window:
    """The window of a core of a picture of height x width: `overlap` or a little more on each side.

    It begins at multiples, and ends at multiples or at the edge of the picture.
    """
    top, bottom = _extent(core.top, core.bottom, height, overlap, sides.multiple)
    left, right = _extent(core.left, core.right, width, overlap, sides.multiple)
    read = Rect(top=top, left=left, height=bottom - top, width=right - left)
    return Window(core=core, read=read, height=sides.around(read.height), width=sides.around(read.width))


def measured_window(core: Rect, height: int, width: int, side: int, sides: Sides) -> Window:
    """The window in which the statistics of a core are measured: the core without margin.

    One that is smaller than `side` at the edge of the picture is extended inwards: a strip of a few pixels has no
    statistics to speak of.
    """
    top, left = (max(0, end - side) for end in (core.bottom, core.right))
    top, left = min(core.top, top), min(core.left, left)
    whole = Rect(top=top, left=left, height=core.bottom - top, width=core.right - left)
    return window_of(whole, height, width, 0, sides)


def sample_windows(crops: Grid, places: Sequence[tuple[int, int]], sides: Sides) -> list[Window]:
    """Crops of a picture at the places of a grid, all of one size: at its edge they are moved inwards to multiples.

    The side of the grid is a side that the generator takes.
    """
    windows = []
    for place in places:
        at = crops.tile(*place)
        top, left = (
            max(0, min(first, (length - crops.side) // sides.multiple * sides.multiple))
            for first, length in ((at.top, crops.height), (at.left, crops.width))
        )
        height, width = min(crops.side, crops.height), min(crops.side, crops.width)
        core = Rect(top=top, left=left, height=height, width=width)
        windows.append(window_of(core, crops.height, crops.width, 0, sides))
    return windows


def in_even_parts(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Neighbours in as few parts as have at most `most` each: parts that count alike have as many, but for one.

    >>> in_even_parts("abcdefghi", 4)
    ['abc', 'def', 'ghi']
    >>> in_even_parts("abcde", 4)
    ['ab', 'cde']
    """
    count = -(-len(items) // most)
    ends = [len(items) * number // count for number in range(count + 1)]
    return [items[first:end] for first, end in pairwise(ends)]


def _extent(first: int, end: int, length: int, overlap: int, multiple: int) -> tuple[int, int]:
    begin = max(0, (first - overlap) // multiple * multiple)
    return begin, min(length, -(-(end + overlap) // multiple) * multiple)
