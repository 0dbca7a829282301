"""Decoded sources of checked pairs, kept in memory until the build has cut all their tiles: each is decoded once.

A pair of 1024 px takes 6.3 MB and 15 to 20 ms to decode. Where not all fit, the last ones stay: a build that is resumed
needs those. A source that is not here is decoded when its first tile is asked for, and stays until its last one: units
are built in the order of names, so that these are the sources of the units in progress.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prep.tiles.unpaired import tiles_of_row
from store.images import PictureU8
from store.pairs.table import Pair

PairU8 = tuple[PictureU8, PictureU8]  # H&E and IHC, [H,W,3] each
Names = tuple[str, str]  # of the two sources


@dataclass(slots=True, kw_only=True, eq=False)
class _Source:
    """A pair of sources: its pictures once they are decoded, whether they are proven unchanged, tiles still to cut."""

    pictures: PairU8 | None = None
    left: int = 1
    proven: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bytes(self) -> int:
        return sum(picture.nbytes for picture in self.pictures or ())


class Decoded:
    """The sources of as many pairs as fit into `limit` bytes, and those that are in use; for any number of threads."""

    def __init__(self, limit: int = 0) -> None:
        self._limit, self._kept_bytes = limit, 0
        self._kept: dict[Names, _Source] = {}  # before the build, the oldest first
        self._used: dict[Names, _Source] = {}
        self._expected: Counter[Names] = Counter()
        self._lock = threading.Lock()

    def keep(self, pair: Pair, pictures: PairU8) -> None:
        """Keep the pictures of a pair's sources, in place of the oldest ones if they do not fit beside them."""
        source = _Source(pictures=pictures)
        if source.bytes > self._limit:
            return
        with self._lock:
            while self._kept_bytes + source.bytes > self._limit:
                self._kept_bytes -= self._kept.pop(next(iter(self._kept))).bytes
            self._kept[pair.he, pair.ihc] = source
            self._kept_bytes += source.bytes

    def expect(self, pairs: Iterable[Pair]) -> None:
        """Say which tiles will be taken: sources of none are no longer kept, the others until their last tile."""
        with self._lock:
            self._expected = Counter((tile.he, tile.ihc) for pair in pairs for tile in tiles_of_row(pair))
            self._kept = {names: source for names, source in self._kept.items() if names in self._expected}
            self._kept_bytes = sum(source.bytes for source in self._kept.values())

    def take(self, pair: Pair, prove: Callable[[PairU8 | None], PairU8]) -> PairU8:
        """The pictures of a pair's sources, after which one tile less is expected of them.

        `prove` is called once for the tiles of a source: it gets what was kept, if anything, and returns it if the
        files have not changed; else it decodes them.
        """
        names = pair.he, pair.ihc
        with self._lock:
            if names not in self._used:
                source = self._kept.pop(names, None) or _Source()
                self._kept_bytes -= source.bytes
                source.left = self._expected[names] or 1
                self._used[names] = source
            source = self._used[names]
        with source.lock:
            if not (source.proven and source.pictures):
                source.pictures, source.proven = prove(source.pictures), True
            pictures = source.pictures
        with self._lock:
            source.left -= 1
            if source.left < 1 and self._used.get(names) is source:
                del self._used[names]
        return pictures


NONE_KEPT = Decoded()


def expecting(pairs: Iterable[Pair]) -> Decoded:
    """Keeps nothing but the sources of these pairs, each from its first tile to its last."""
    decoded = Decoded()
    decoded.expect(pairs)
    return decoded
