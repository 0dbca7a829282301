"""What a picture or slide offers to whoever reads it in parts, whatever file it is in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from store.images import PictureU8
from store.slides.geometry import Rect


class Level(Protocol):
    """A picture that is read in rectangles, by several threads at once if they like."""

    @property
    def height(self) -> int:
        """Of the whole picture, px."""
        ...

    @property
    def width(self) -> int:
        """Of the whole picture, px."""
        ...

    def read(self, rect: Rect) -> PictureU8:
        """The pixels of a rectangle that lies inside, u8 [H,W,3] RGB. Raises PictureError where they are damaged."""
        ...


class Source(Level, Protocol):
    """An open picture of any size, upright."""

    @property
    def path(self) -> Path:
        """The file, or the folder of an OME-Zarr."""
        ...

    @property
    def levels(self) -> Sequence[Level]:
        """The same picture at every scale that the file has, the largest first: itself."""
        ...

    @property
    def mpp(self) -> float | None:
        """Micrometres per pixel as `read` returns them; None where the file does not say."""
        ...

    @property
    def mpp_from(self) -> str:
        """Where the file says so, in words; empty where it does not."""
        ...

    @property
    def is_slide(self) -> bool:
        """Whether it is read in parts from its file: a pyramid or tiled file. Others are decoded once, as a whole."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Lossless conversions that reading does, in words."""
        ...

    def overview(self, side: int) -> PictureU8:
        """The whole picture in small, u8 [h,w,3]: each pixel the mean of its area, the longer side at most `side` px.

        Pictures that are smaller are not enlarged. Memory is bounded by levels of the pyramid, or by reading in parts.
        """
        ...

    def digest(self) -> str:
        """The sha256 of what the file holds, in hex; of a folder, of its names and files."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...
