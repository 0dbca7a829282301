"""Pictures from files and from the store, and the sha256 of their pixels, by which features are found again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from store.images import PictureU8, load_picture
from store.schema import RunError

AGAIN = "predict again, then score again"
KEPT = 8  # pictures that are remembered: more than the threads that read them at the same time
Read = Callable[[int], PictureU8]  # a picture by its place in the order of the store, u8 [H,W,3]


class Remembered:
    """A way to read pictures that knows the last few: several sets are made from the same picture of the store.

    Threads may share it; it is sent to another process without its pictures.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._last: dict[int, PictureU8] = {}

    def __call__(self, place: int) -> PictureU8:
        """The picture of a place; not to be changed."""
        known = self._last.get(place)
        if known is None:
            known = self._read(place)
            # two threads at once: one of their pictures is forgotten, which only costs time
            self._last = dict([*self._last.items()][1 - KEPT :]) | {place: known}
        return known

    def __reduce__(self) -> tuple[type[Remembered], tuple[Read]]:
        return Remembered, (self._read,)


def digest_pixels(picture_u8: PictureU8) -> str:
    """The sha256 of a picture's size and pixels, the same whatever file format holds them."""
    found = hashlib.sha256(repr(picture_u8.shape).encode())
    found.update(np.ascontiguousarray(picture_u8).data)
    return found.hexdigest()


def read_exact(file: Path, digest: str) -> PictureU8:
    """The picture in a file, u8 [H,W,3]. RunError unless the bytes that were decoded have this sha256."""
    picture = load_picture(file)
    if picture.digest != digest:
        raise RunError(f"{file} was changed or exchanged: it is not the picture that was predicted and scored; {AGAIN}")
    return picture.pixels.copy()


def digest_set(digests: Sequence[str]) -> str:
    """The sha256 of a set of pictures in their order, from the sha256 of each."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()
