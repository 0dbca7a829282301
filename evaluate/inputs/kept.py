"""Pictures that were read once and are kept in memory, so that the next network need not read and decode them again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from evaluate.inputs.image_set import ImageSet, SetName
from store.images import PictureU8


class Kept:
    """Pictures u8 [H,W,3] by the sha256 of their pixels, as many as fit into `limit` bytes; safe in several threads.

    The first ones stay: every network reads in the same order, so dropping the oldest would drop each before its turn.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._kept: dict[str, PictureU8] = {}
        self._lock = threading.Lock()

    def get(self, digest: str, read: Callable[[], PictureU8]) -> PictureU8:
        """The picture with this digest, which `read` reads if it is not here."""
        if (found := self._kept.get(digest)) is not None:
            return found
        picture = read()
        with self._lock:
            if digest not in self._kept and picture.nbytes <= self._left:
                self._kept[digest] = picture
                self._left -= picture.nbytes
        return picture


def keep_pictures(images: ImageSet, limit: int) -> ImageSet:
    """The same pictures, of which so many as fit into `limit` bytes are read once."""
    kept = Kept(limit)

    def reader(name: SetName) -> Callable[[int], PictureU8]:
        digests, read = images.digests[name], images.reads[name]
        return lambda place: kept.get(digests[place], lambda: read(place))

    return replace(images, reads={name: reader(name) for name in images.reads})
