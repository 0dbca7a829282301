"""One picture in a file, without levels: PNG, JPEG or TIFF, written in bands from top to bottom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

from store.images import REGION_PIXELS, PictureU8
from store.schema import SchemaError
from store.slides.geometry import Rect
from store.slides.writing.labels import SOFTWARE, Label
from store.slides.writing.layer import Layer
from store.slides.writing.ome_tiff import CLASSIC_BYTES, resolution
from store.slides.writing.packing import LEVEL
from store.slides.writing.plan import OutputKind
from store.slides.writing.png import write_png

JPEG_SIDE = 65_500  # px, the most that libjpeg writes
STRIP_ROWS = 64  # of a TIFF


def check_flat(kind: OutputKind, height: int, width: int) -> None:
    """Raise SchemaError if a picture is too large for a kind of file."""
    if kind is OutputKind.JPEG and (max(height, width) > JPEG_SIDE or height * width > REGION_PIXELS):
        raise SchemaError(
            f"{height:,} x {width:,} px as JPEG: at most {JPEG_SIDE:,} px in each direction and {REGION_PIXELS:,} px "
            "together; write it as ome-tiff, or as ome-tiff with compression = jpeg"
        )


def write_flat(file: Path, kind: OutputKind, layer: Layer, label: Label, quality: int) -> None:
    """Write a picture as PNG, JPEG or TIFF; all units must be there."""
    check_flat(kind, layer.grid.height, layer.grid.width)
    height, width = layer.grid.height, layer.grid.width
    if kind is OutputKind.TIFF:
        _write_tiff(file, height, width, _bands(layer), label)
        return
    with file.open("wb") as opened:
        if kind is OutputKind.PNG:
            write_png(opened, height, width, _bands(layer), label)
        else:
            pixels = layer.read(Rect(top=0, left=0, height=height, width=width))
            opened.write(imagecodecs.jpeg8_encode(pixels, quality))


def _bands(layer: Layer) -> Iterator[PictureU8]:
    """The rows of output tiles as pixels, u8 [h,width,3]."""
    for row in range(layer.tiles.rows):
        rect = layer.tiles.tile(row, 0)
        yield layer.read(Rect(top=rect.top, left=0, height=rect.height, width=layer.grid.width))


def _write_tiff(file: Path, height: int, width: int, bands: Iterable[PictureU8], label: Label) -> None:
    with tifffile.TiffWriter(file, bigtiff=3 * height * width > CLASSIC_BYTES, byteorder="<", shaped=False) as tiff:
        tiff.write(
            _strips(bands),
            shape=(height, width, 3),
            dtype="uint8",
            photometric="rgb",
            rowsperstrip=STRIP_ROWS,
            compression="zlib",
            predictor=True,
            software=SOFTWARE,
            description=label.text.encode(),
            metadata=None,
            **resolution(label.mpp),
        )


def _strips(bands: Iterable[PictureU8]) -> Iterator[bytes]:
    """Strips of a TIFF, each pixel less its left neighbour, in zlib streams."""
    for band in bands:
        for top in range(0, len(band), STRIP_ROWS):
            strip = band[top : top + STRIP_ROWS]
            difference = strip.copy()
            difference[:, 1:] -= strip[:, :-1]
            yield bytes(imagecodecs.deflate_encode(np.ascontiguousarray(difference), LEVEL))
