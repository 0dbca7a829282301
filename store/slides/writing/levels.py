"""The levels of a pyramid: each pixel the mean of four of the level below."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from store.images import PictureU8
from store.slides.geometry import Rect
from store.slides.writing.layer import Layer
from store.slides.writing.plan import Unit


def halve(pixels: PictureU8) -> PictureU8:
    """Means of 2 x 2 px, u8 [h,w,3] to u8 [(h+1)//2,(w+1)//2,3], halves rounded up; odd sides repeat their last px.

    >>> halve(np.array([[[0, 1, 2], [1, 2, 255], [7, 8, 9]]], np.uint8)).tolist()
    [[[1, 2, 129], [7, 8, 9]]]
    """
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    rows = pixels[0::2].astype(np.uint16) + pixels[1::2]
    return ((rows[:, 0::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)


def make_level(level: Layer, below: Layer, each: Callable[[], None]) -> None:
    """Fill what is missing of a level from the one below; `each` is called after every unit."""
    for unit in level.pending():
        _make_unit(level, below, unit)
        each()


def _make_unit(level: Layer, below: Layer, unit: Unit) -> None:
    sources = (_doubled(level.grid.tile(*place), below) for place in unit.places())
    level.put(unit, [None if below.is_white(source) else halve(below.read(source)) for source in sources])


def _doubled(rect: Rect, below: Layer) -> Rect:
    """What a rectangle of a level covers of the one below."""
    height = min(2 * rect.height, below.grid.height - 2 * rect.top)
    width = min(2 * rect.width, below.grid.width - 2 * rect.left)
    return Rect(top=2 * rect.top, left=2 * rect.left, height=height, width=width)
