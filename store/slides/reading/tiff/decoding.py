"""A segment of a TIFF file as RGB: read, checked, decoded.

imagecodecs, which tifffile decodes with, accepts JPEGs without their end, and allocates what the header of a segment
says: lengths and sizes are compared before.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from store.images import TRANSPARENT, PictureU8
from store.schema import PictureError
from store.slides.reading.tiff.encoded import jpeg_2000_size, jpeg_size
from store.slides.reading.tiff.page import JPEG, JPEG_2000, PALETTE, WHITE_IS_ZERO, Page

WHITE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The segments of one picture of an open file, which threads read in turn."""

    path: Path
    file: BinaryIO
    lock: threading.Lock
    page: Page
    number: int  # of the level

    def load(self, row: int, column: int) -> PictureU8:
        """What lies inside the picture of a segment, u8 [h,w,3] RGB. Raises PictureError."""
        page = self.page
        height = min(page.rows, page.height - row * page.rows)
        width = min(page.columns, page.width - column * page.columns)
        planes = range(row * page.across + column, len(page.offsets), page.across * page.down)
        encoded = [self._read(int(page.offsets[one]), int(page.lengths[one])) for one in planes]
        if not all(encoded):
            return np.full((height, width, 3), WHITE, dtype=np.uint8)
        try:
            parts = [_decode(page, data, one, height, width) for data, one in zip(encoded, planes, strict=True)]
        except MemoryError:  # of this machine, not of the file
            raise
        except Exception as error:  # damaged bytes make decoders raise anything
            why = f"is damaged ({str(error) or type(error).__name__}); fetch or export the file again"
            raise self._refused(row, column, why) from error
        pixels = np.concatenate(parts, axis=2) if page.planar else parts[0]
        if page.alpha is not None and (pixels[..., page.alpha] < WHITE).any():
            raise self._refused(row, column, TRANSPARENT)
        return to_rgb(page, pixels)

    def _read(self, offset: int, length: int) -> bytes:
        try:
            with self.lock:
                self.file.seek(offset)
                return self.file.read(length)
        except (OSError, ValueError) as error:  # ValueError: it was closed
            raise PictureError(f"{self.path}: cannot be read at byte {offset:,} ({error}); mend that") from error

    def _refused(self, row: int, column: int, reason: str) -> PictureError:
        top, left = row * self.page.rows, column * self.page.columns
        level = f" of level {self.number}" if self.number else ""
        return PictureError(
            f"{self.path}: the part at {top:,} px from the top and {left:,} px from the left{level} {reason}"
        )


def _decode(page: Page, data: bytes, index: int, height: int, width: int) -> NDArray[np.uint8]:
    """The first height x width px of a segment, u8 [h,w,bands]. Raises ValueError, or what a decoder raises."""
    size = (page.rows, page.columns)
    if page.compression == JPEG:
        size = jpeg_size(data) or (0, 0)
    elif page.compression in JPEG_2000:
        size = jpeg_2000_size(data) or (0, 0)
    if not (height <= size[0] <= page.rows and width <= size[1] <= page.columns):
        raise ValueError("it breaks off, or has another size")
    decoded, _, _ = page.decode(data, index, jpegtables=page.tables)
    pixels = np.asarray(decoded)[0, :height, :width]
    bands = 1 if page.planar else page.bands
    if pixels.shape != (height, width, bands) or pixels.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"it decodes to {pixels.dtype} {list(pixels.shape)}")
    return pixels.view(np.uint8)


def to_rgb(page: Page, pixels: NDArray[np.uint8]) -> PictureU8:
    """The bands of a segment, u8 [h,w,bands], as RGB, [h,w,3]."""
    if page.bits == 1:
        pixels = pixels * np.uint8(WHITE)
    if page.photometric == PALETTE:
        colours: PictureU8 = page.colours[pixels[..., 0]]
        return colours
    if page.photometric == WHITE_IS_ZERO:
        pixels = WHITE - pixels
    if page.ycbcr:
        return _from_ycbcr(pixels)
    if page.bands < 3:
        return np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])  # nothing else is kept


def _from_ycbcr(pixels: NDArray[np.uint8]) -> PictureU8:
    """As JFIF 1.02 defines it."""
    y, blue, red = np.moveaxis(pixels[..., :3].astype(np.float32), 2, 0)
    blue, red = blue - 128, red - 128
    rgb = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=2)
    whole: PictureU8 = np.rint(rgb).clip(0, WHITE).astype(np.uint8)
    return whole
