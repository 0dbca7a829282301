"""Pictures whose file has them in rectangular segments: tiles, strips or chunks, each of which is decoded at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from store.images import PictureU8
from store.slides.geometry import Rect

LoadSegment = Callable[[int, int], PictureU8]  # by row and column, u8 [h,w,3]: at least what lies inside the picture


KEPT = 1 << 26  # bytes of segments, of which a window of a picture touches a few
TOUCHED = 16  # segments of one window, where they are as large as that


class Cache:
    """The segments that were used last, at most `limit` bytes of them, shared by threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0  # bytes
        self._segments: OrderedDict[tuple[int, int, int], PictureU8] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, memory: int, width: int, rows: int, columns: int) -> Cache:
        """The cache of a picture of `width` px in segments of rows x columns px, of at most `memory` bytes.

        No more than neighbouring windows share: what is kept does not grow with the picture. Segments that reach from
        side to side are all needed again by the next window.
        """
        return cls(memory if columns >= width else min(memory, max(KEPT, TOUCHED * 3 * rows * columns)))

    def get(self, key: tuple[int, int, int]) -> PictureU8 | None:
        """The segment of a level, row and column; None if it is not kept."""
        with self._lock:
            if (found := self._segments.get(key)) is not None:
                self._segments.move_to_end(key)
            return found

    def put(self, key: tuple[int, int, int], segment: PictureU8) -> None:
        """Keep a segment, and drop those that were used longest ago."""
        with self._lock:
            if key in self._segments:  # two threads decoded it at the same time
                return
            self._segments[key] = segment
            self._held += segment.nbytes
            while self._held > self._limit:
                _, dropped = self._segments.popitem(last=False)
                self._held -= dropped.nbytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmented:
    """Level `number` of a picture, in segments of `rows` x `columns` px; those at the edges may reach beyond it."""

    number: int
    height: int
    width: int
    rows: int
    columns: int
    load: LoadSegment
    cache: Cache

    def read(self, rect: Rect) -> PictureU8:
        """The pixels of a rectangle that lies inside, u8 [H,W,3] RGB."""
        pixels = np.empty((rect.height, rect.width, 3), dtype=np.uint8)
        for row in range(rect.top // self.rows, (rect.bottom - 1) // self.rows + 1):
            for column in range(rect.left // self.columns, (rect.right - 1) // self.columns + 1):
                top, left = row * self.rows, column * self.columns  # of the segment
                first, last = max(top, rect.top), min(top + self.rows, rect.bottom)
                begin, end = max(left, rect.left), min(left + self.columns, rect.right)
                part = self._segment(row, column)[first - top : last - top, begin - left : end - left]
                pixels[first - rect.top : last - rect.top, begin - rect.left : end - rect.left] = part
        return pixels

    def _segment(self, row: int, column: int) -> PictureU8:
        key = (self.number, row, column)
        if (segment := self.cache.get(key)) is None:
            segment = self.load(row, column)
            self.cache.put(key, segment)
        return segment
