"""Pictures that are decoded once, as a whole: JPEG, PNG, BMP and plain TIFF of any size and shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from store.images import REGION_PIXELS, Picture, PictureU8, load_picture, stored_size
from store.schema import PictureError
from store.slides.geometry import Rect
from store.slides.reading.scaling import overview
from store.slides.source import Level

BYTES = 16  # a pixel takes at most while it is decoded: measured 10 to 11, with alpha 15, beside the file itself
GIB = 1 << 30
ADVICE = "convert it to a tiled TIFF, which is read in parts, e.g. `vips tiffsave IN OUT.tif --tile --pyramid`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A picture in memory, as a Source."""

    path: Path
    picture: Picture

    @property
    def height(self) -> int:
        """Of the picture, px."""
        return int(self.picture.pixels.shape[0])

    @property
    def width(self) -> int:
        """Of the picture, px."""
        return int(self.picture.pixels.shape[1])

    @property
    def levels(self) -> tuple[Level, ...]:
        """Itself alone."""
        return (self,)

    @property
    def mpp(self) -> float | None:
        """Micrometres per pixel as its file claims."""
        return self.picture.claims.mpp or None

    @property
    def mpp_from(self) -> str:
        """Where the file claims it."""
        return self.picture.claims.mpp_from

    @property
    def is_slide(self) -> bool:
        """No."""
        return False

    @property
    def notes(self) -> tuple[str, ...]:
        """Lossless conversions that were done."""
        return self.picture.notes

    def read(self, rect: Rect) -> PictureU8:
        """The pixels of a rectangle, u8 [H,W,3] RGB, read-only."""
        return self.picture.pixels[rect.top : rect.bottom, rect.left : rect.right]

    def overview(self, side: int) -> PictureU8:
        """The picture with a longer side of at most `side` px."""
        return overview(self.levels, side)

    def digest(self) -> str:
        """The sha256 of exactly the bytes that were decoded."""
        return self.picture.digest

    def close(self) -> None:
        """Nothing is open."""


def open_whole(path: Path, memory: int) -> Whole:
    """Decode a picture if that takes at most `memory` bytes. Raises PictureError."""
    size = stored_size(path)
    if size is not None:
        _check_pixels(path, *size, memory)
    if (held := path.stat().st_size) > memory:
        raise PictureError(
            f"{path}: the file has {held / GIB:,.1f} GiB, more than the {memory / GIB:,.1f} GiB allowed; if it is a "
            f"picture, {ADVICE}, or allow more: --set memory=GIB"
        )
    return Whole(path=path, picture=load_picture(path, region=True))


def _check_pixels(path: Path, height: int, width: int, memory: int) -> None:
    """Raise PictureError for a picture that is too large to be decoded as a whole."""
    if (needed := height * width * BYTES) > memory:
        raise PictureError(
            f"{path}: {width:,} x {height:,} px take {needed / GIB:,.1f} GiB to decode, more than the "
            f"{memory / GIB:,.1f} GiB allowed: {ADVICE}, or allow more: --set memory=GIB"
        )
    if height * width > REGION_PIXELS:
        raise PictureError(
            f"{path}: {width:,} x {height:,} px are more than the {REGION_PIXELS:,} that are decoded at once: {ADVICE}"
        )
