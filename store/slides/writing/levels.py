"""The levels of a pyramid: each pixel the mean of four of the level below."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from store.images import PictureU8
from store.machine.threads import in_order
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
    halved = np.empty((rows.shape[0], rows.shape[1] // 2, 3), np.uint8)
    for colour in range(3):  # long inner loops: three times as fast as all colours at once
        halved[..., colour] = (rows[:, 0::2, colour] + rows[:, 1::2, colour] + 2) >> 2
    return halved


def make_level(level: Layer, below: Layer, each: Callable[[int], None]) -> None:
    """Fill what is missing of a level from the one below; `each` is told how many tiles are there."""

    def make(unit: Unit) -> int:
        sources = (_doubled(level.grid.tile(*place), below) for place in unit.places())
        level.put(unit, [None if below.is_white(source) else halve(below.read(source)) for source in sources])
        return level.count_tiles(unit)

    pending = level.pending()
    each(sum(map(level.count_tiles, set(level.units).difference(pending))))
    for tiles in in_order(make, pending):
        each(tiles)


def _doubled(rect: Rect, below: Layer) -> Rect:
    """What a rectangle of a level covers of the one below."""
    height = min(2 * rect.height, below.grid.height - 2 * rect.top)
    width = min(2 * rect.width, below.grid.width - 2 * rect.left)
    return Rect(top=2 * rect.top, left=2 * rect.left, height=height, width=width)
