"""A slide: a picture that is read in parts from its file, at one or more scales."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from store.images import PictureU8
from store.schema import PictureError
from store.slides.geometry import Rect
from store.slides.reading.scaling import overview
from store.slides.source import Level

CHUNK = 1 << 20  # bytes that are hashed at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Slide:
    """An open slide, as a Source."""

    path: Path
    levels: Sequence[Level]
    mpp: float | None
    mpp_from: str
    notes: tuple[str, ...]
    shut: Callable[[], None]

    @property
    def height(self) -> int:
        """Of the whole picture, px."""
        return self.levels[0].height

    @property
    def width(self) -> int:
        """Of the whole picture, px."""
        return self.levels[0].width

    @property
    def is_slide(self) -> bool:
        """Yes."""
        return True

    def read(self, rect: Rect) -> PictureU8:
        """The pixels of a rectangle that lies inside, u8 [H,W,3] RGB."""
        return self.levels[0].read(rect)

    def overview(self, side: int) -> PictureU8:
        """The whole picture with a longer side of at most `side` px, u8 [h,w,3]."""
        return overview(self.levels, side)

    def digest(self) -> str:
        """The sha256 of the file, of a folder, or of a file and the folder of the same name that belongs to it."""
        return digest_of(self.path)

    def close(self) -> None:
        """Close the file."""
        self.shut()


def is_smaller(whole: tuple[int, int], part: tuple[int, int]) -> bool:
    """Whether height and width are those of the whole divided by one factor, but for rounding to a pixel.

    A side of one pixel stays one.

    >>> is_smaller((1003, 2001), (250, 500)), is_smaller((1003, 2001), (250, 400)), is_smaller((1, 9), (1, 5))
    (True, False, True)
    """
    sides = list(zip(whole, part, strict=True))
    least = max(large / (small + 1) for large, small in sides)
    most = min(large / (small - 1) if small > 1 else math.inf for large, small in sides)
    shrinks = part != whole and all(0 < small < large or small == large == 1 for large, small in sides)
    return shrinks and least < most


def digest_of(path: Path) -> str:
    """The sha256 of a file in hex; of a folder, and of a MIRAX slide and its folder, that of all names and digests."""
    if path.suffix.lower() == ".mrxs":
        return _digest_all(path.parent, [path, *_below(path.with_suffix(""))])
    return _digest_all(path, _below(path)) if path.is_dir() else _digest_file(path)


def _below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _digest_all(folder: Path, files: Iterable[Path]) -> str:
    lines = sorted(f"{file.relative_to(folder).as_posix()} {_digest_file(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _digest_file(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(CHUNK):
                digest.update(part)
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror}); mend that or leave the file out") from error
    return digest.hexdigest()
