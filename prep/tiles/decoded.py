"""Decoded pictures of checked pairs, kept in memory until the build needs them, so that each is decoded once.

A pair of 1024 px takes 6.3 MB and 15 to 20 ms to decode. Where not all fit, the last ones stay: a build that is resumed
needs those.
"""

from __future__ import annotations

import threading

from store.images import PictureU8
from store.pairs.table import Pair

PairU8 = tuple[PictureU8, PictureU8]  # H&E and IHC, [S,S,3] each


class Decoded:
    """The pictures of as many pairs as fit into `limit` bytes; safe to use from several threads."""

    def __init__(self, limit: int = 0) -> None:
        self._limit, self._bytes = limit, 0
        self._kept: dict[tuple[str, str], PairU8] = {}  # by the names of the sources, the oldest first
        self._lock = threading.Lock()

    def keep(self, pair: Pair, pictures: PairU8) -> None:
        """Keep the pictures of a pair, in place of the oldest ones if they do not fit beside them."""
        size = _bytes(pictures)
        if size > self._limit:
            return
        with self._lock:
            while self._bytes + size > self._limit:
                self._bytes -= _bytes(self._kept.pop(next(iter(self._kept))))
            self._kept[pair.he, pair.ihc] = pictures
            self._bytes += size

    def take(self, pair: Pair) -> PairU8 | None:
        """The pictures of a pair, which are no longer kept then; None if they are not here."""
        with self._lock:
            pictures = self._kept.pop((pair.he, pair.ihc), None)
            self._bytes -= _bytes(pictures) if pictures else 0
            return pictures


NONE_KEPT = Decoded()


def _bytes(pictures: PairU8) -> int:
    return sum(picture.nbytes for picture in pictures)
