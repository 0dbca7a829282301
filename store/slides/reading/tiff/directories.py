"""The directories of a TIFF file, checked before anything in them is believed (TIFF 6.0, section 2; BigTIFF).

A directory may name any number of values anywhere. What lies beyond the end of the file makes it truncated, and counts
that no slide has make it damaged; both are found here, without reading the values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from store.pictures.containers import MOST_PICTURES, too_many_pictures, truncated
from store.schema import MagstainError, PictureError
from store.untrusted.documents import shorten

SEGMENTS = 1 << 22  # tiles or strips of a picture: 2^19 px square in tiles of 256 px
LONGEST = 1 << 26  # bytes of any other tag: profiles, tables of JPEG, descriptions
ENTRIES = 4096  # of a directory
LEVELS = 64
INNER = 330  # the tag that names the directories of smaller pictures
_SEGMENT_TAGS = {273, 279, 324, 325}  # offsets and byte counts of strips and tiles
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # of unsigned numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Where a directory begins, in bytes, which tags it has, and where those of its smaller pictures begin."""

    place: int
    tags: frozenset[int]
    inner: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffDirectories:
    """An open TIFF file of `size` bytes, the order of its bytes, and whether its numbers are those of BigTIFF."""

    path: Path
    file: BinaryIO
    size: int
    order: str
    big: bool

    def chain(self) -> Iterator[Directory]:
        """The directories that follow each other. Raises PictureError."""
        seen: set[int] = set()
        place = 8 if self.big else 4  # of the pointer to the next directory
        while start := self._numbers(place, "IQ"[self.big], 1)[0]:
            if start in seen:
                raise damaged(self.path, f"its directory at byte {start:,} follows itself")
            if len(seen) == MOST_PICTURES:
                raise too_many_pictures(self.path)
            seen.add(start)
            yield self.directory(start)
            place = start + self._head.size + self._entry.size * self._count(start)

    def directory(self, start: int) -> Directory:
        """The directory at a place. Raises PictureError."""
        count = self._count(start)
        if not 0 < count <= ENTRIES:
            raise damaged(self.path, f"its directory at byte {start:,} has {count:,} entries")
        place = start + self._head.size
        data = self._bytes(place, count * self._entry.size)
        tags: set[int] = set()
        inner: tuple[int, ...] = ()
        for index, (tag, kind, values, value) in enumerate(self._entry.iter_unpack(data)):
            length = _BYTES.get(kind, 0) * values
            limit = SEGMENTS * _BYTES.get(kind, 0) if tag in _SEGMENT_TAGS else LONGEST
            if length > limit or (tag == INNER and values > LEVELS):
                raise damaged(self.path, f"its tag {tag} claims {values:,} values")
            where = place + index * self._entry.size + self._entry.size - len(value)
            if length > len(value):
                (where,) = Struct(self.order + "IQ"[self.big]).unpack(value)
                if where + length > self.size:
                    raise truncated(self.path, "TIFF", self.size)
            if tag == INNER and kind in _CODES:
                inner = self._numbers(where, _CODES[kind], values)
            tags.add(tag)
        return Directory(place=start, tags=frozenset(tags), inner=inner)

    @property
    def _head(self) -> Struct:
        return Struct(self.order + "HQ"[self.big])

    @property
    def _entry(self) -> Struct:
        return Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))

    def _count(self, start: int) -> int:
        return int(self._head.unpack(self._bytes(start, self._head.size))[0])

    def _numbers(self, place: int, code: str, count: int) -> tuple[int, ...]:
        layout = Struct(f"{self.order}{count}{code}")
        return layout.unpack(self._bytes(place, layout.size))

    def _bytes(self, place: int, length: int) -> bytes:
        if place + length > self.size:
            raise truncated(self.path, "TIFF", self.size)
        self.file.seek(place)
        return self.file.read(length)


def open_directories(path: Path, file: BinaryIO) -> TiffDirectories:
    """A file that begins like a TIFF."""
    head = file.read(4)
    size = file.seek(0, 2)
    return TiffDirectories(
        path=path, file=file, size=size, order="<" if head[:2] == b"II" else ">", big=b"+" in head[2:]
    )


@contextlib.contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Say that a file is damaged where its parts are of other kinds than they should: tifffile then raises anything."""
    try:
        yield
    except (MagstainError, MemoryError, OSError):
        raise
    except Exception as error:
        raise damaged(path, shorten(str(error) or type(error).__name__, 200)) from error


def damaged(path: Path, what: str) -> PictureError:
    """The error of a TIFF that contradicts itself."""
    return PictureError(f"{path}: damaged TIFF, {what}; fetch or export it again")
