"""Pictures at another scale: means over areas to shrink, linear between centres of pixels to enlarge.

A pixel of the result is a function of its own place: whichever rectangle it is asked for in, the same numbers are added
in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.images import PictureU8
from store.slides.geometry import Rect
from store.slides.source import Level

BLOCK = 1 << 22  # px of the picture that are read at once
SAME = 1e-6  # relative difference of scales that are one


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One direction of a picture of `size` px of which a pixel of the result covers `step` px."""

    size: int
    step: float

    def taps(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The pixels that pixels `start` to `stop` of the result are made of and their weights, both [stop-start,K]."""
        places = np.arange(start, stop, dtype=np.float64)[:, None]
        if self.step < 1:
            centre = (places + 0.5) * self.step - 0.5
            first = np.floor(centre)
            weights = np.concatenate([1 - (centre - first), centre - first], axis=1)
        else:
            first = np.floor(places * self.step)
            covered = first + np.arange(math.ceil(self.step) + 1)
            begin, end = places * self.step, (places + 1) * self.step
            weights = np.minimum(covered + 1, np.minimum(end, self.size)) - np.maximum(covered, begin)
            weights = weights.clip(0)
            weights[:, 0] += weights.sum(axis=1) == 0  # beyond the edge by rounding: the last pixel
            weights /= weights.sum(axis=1, keepdims=True)
        index = (first + np.arange(weights.shape[1])).clip(0, self.size - 1)
        return index.astype(np.int64), weights.astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """A level as `height` x `width` px, a pixel of which covers `down` x `across` px of the level."""

    level: Level
    height: int
    width: int
    down: float
    across: float

    def read(self, rect: Rect) -> PictureU8:
        """The pixels of a rectangle that lies inside, u8 [H,W,3] RGB."""
        same = abs(self.down - 1) < SAME and abs(self.across - 1) < SAME
        if same and (self.height, self.width) == (self.level.height, self.level.width):
            return self.level.read(rect)
        pixels = np.empty((rect.height, rect.width, 3), dtype=np.uint8)
        most = int(BLOCK / max(1.0, self.down * self.across))  # px of the result
        rows = min(max(1, most // rect.width), rect.height)  # wide bands: strips and tiles are decoded once
        columns = min(max(1, most), rect.width)
        for top in range(0, rect.height, rows):
            for left in range(0, rect.width, columns):
                height, width = min(rows, rect.height - top), min(columns, rect.width - left)
                part = Rect(top=rect.top + top, left=rect.left + left, height=height, width=width)
                pixels[top : top + height, left : left + width] = self._block(part)
        return pixels

    def _block(self, rect: Rect) -> PictureU8:
        rows, of_rows = Axis(size=self.level.height, step=self.down).taps(rect.top, rect.bottom)
        columns, of_columns = Axis(size=self.level.width, step=self.across).taps(rect.left, rect.right)
        top, left = int(rows.min()), int(columns.min())
        height, width = int(rows.max()) + 1 - top, int(columns.max()) + 1 - left
        pixels = self.level.read(Rect(top=top, left=left, height=height, width=width))
        pixels = np.ascontiguousarray(pixels)  # which `take` would make of it for each row
        bands = _weighted(pixels, rows - top, of_rows, 0)
        return np.rint(_weighted(bands, columns - left, of_columns, 1)).astype(np.uint8)


def _weighted(
    pixels: NDArray[Any], index: NDArray[np.int64], weights: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    """Sums of rows (axis 0) or columns (1) of pixels [H,W,3]: those in `index`, with `weights`, both [N,K]."""
    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    total = np.zeros((*pixels.shape[:axis], len(index), *pixels.shape[axis + 1 :]), dtype=np.float32)
    for places, weight in zip(index.T, weights.T, strict=True):
        if weight.any():  # the last one often covers nothing
            total += np.take(pixels, places, axis=axis) * weight.reshape(shape)
    return total


def overview(levels: Sequence[Level], side: int) -> PictureU8:
    """The whole picture with a longer side of at most `side` px, u8 [h,w,3], from the smallest level that has it."""
    longest = max(levels[0].height, levels[0].width)
    height, width = (max(1, round(n * min(1.0, side / longest))) for n in (levels[0].height, levels[0].width))
    fitting = [level for level in levels if level.height >= height and level.width >= width]
    level = min(fitting, key=lambda one: one.height * one.width)
    down, across = level.height / height, level.width / width
    scaled = Scaled(level=level, height=height, width=width, down=down, across=across)
    return scaled.read(Rect(top=0, left=0, height=height, width=width))
