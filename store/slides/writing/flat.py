"""One picture in a file, without levels: PNG, JPEG or TIFF, written from top to bottom in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from math import gcd
from typing import BinaryIO, Protocol

import tifffile

from store.images import PictureU8
from store.machine.threads import in_order
from store.schema import SchemaError
from store.slides.geometry import Grid, Rect
from store.slides.writing import jpeg
from store.slides.writing.labels import SOFTWARE, Label
from store.slides.writing.ome_tiff import CLASSIC_BYTES, UNIT, resolution
from store.slides.writing.packing import deflate
from store.slides.writing.plan import OutputKind, output_tile
from store.slides.writing.png import write_png

PART_ROWS, PART_BYTES = 64, 1 << 20  # that are compressed at once, at most


class Pixels(Protocol):
    """A picture of `grid`, which is read in rectangles; `tiles` are those that it is packed in."""

    grid: Grid
    tiles: Grid

    def read(self, rect: Rect) -> PictureU8:
        """The pixels of a rectangle, u8 [H,W,3]."""
        ...


@dataclass(slots=True, kw_only=True)
class InMemory:
    """Pixels u8 [H,W,3] as they are."""

    grid: Grid
    tiles: Grid
    pixels: PictureU8

    def read(self, rect: Rect) -> PictureU8:
        """The pixels of a rectangle, u8 [H,W,3]."""
        return self.pixels[rect.top : rect.bottom, rect.left : rect.right]


def flat_bytes(kind: OutputKind, pixels: PictureU8, side: int, label: Label, quality: int) -> bytes:
    """The file of a picture u8 [H,W,3] in cores of `side` px: the bytes that `write_flat` makes of it from a spool."""
    height, width = pixels.shape[:2]
    grid = Grid(height=height, width=width, side=side)
    tiles = Grid(height=height, width=width, side=output_tile(side))
    file = BytesIO()
    write_flat(file, kind, InMemory(grid=grid, tiles=tiles, pixels=pixels), label, quality, lambda _: None)
    return file.getvalue()


def check_flat(kind: OutputKind, height: int, width: int) -> None:
    """Raise SchemaError if a picture is too large for a kind of file."""
    if kind is OutputKind.JPEG and max(height, width) > jpeg.MOST_SIDE:
        raise SchemaError(
            f"{height:,} x {width:,} px as JPEG: it has at most {jpeg.MOST_SIDE:,} px in each direction; "
            "write it as ome-tiff, with compression = jpeg if it may lose what JPEG loses"
        )


def write_flat(
    file: BinaryIO, kind: OutputKind, layer: Pixels, label: Label, quality: int, each: Callable[[int], None]
) -> None:
    """Write a picture, all units of which are there; `quality` is that of JPEG; `each` is told of rows of tiles."""
    height, width = layer.grid.height, layer.grid.width
    check_flat(kind, height, width)
    if kind is OutputKind.TIFF:
        _write_tiff(file, layer, label, each)
    elif kind is OutputKind.PNG:
        write_png(file, height, width, _parts(layer, _rows(layer), each), label)
    else:
        jpeg.write_jpeg(file, height, width, _parts(layer, jpeg.STRIP, each), label, quality)


def _rows(layer: Pixels) -> int:
    """A power of two that divides output tiles: the rows of the parts that are compressed at once."""
    rows = gcd(PART_ROWS, layer.tiles.side)
    while rows > 1 and 3 * rows * layer.grid.width > PART_BYTES:
        rows //= 2
    return rows


def _parts(layer: Pixels, most: int, each: Callable[[int], None]) -> Iterator[PictureU8]:
    """All rows from top to bottom, `most` at once where rows of tiles do not end before: u8 [h,width,3]."""
    for row in range(layer.tiles.rows):
        rect = layer.tiles.tile(row, 0)
        band = layer.read(Rect(top=rect.top, left=0, height=rect.height, width=layer.grid.width))
        each(layer.tiles.columns)
        yield from (band[top : top + most] for top in range(0, len(band), most))


def _write_tiff(file: BinaryIO, layer: Pixels, label: Label, each: Callable[[int], None]) -> None:
    height, width = layer.grid.height, layer.grid.width
    rows = _rows(layer)
    with tifffile.TiffWriter(file, bigtiff=3 * height * width > CLASSIC_BYTES, byteorder="<", shaped=False) as tiff:
        tiff.write(
            in_order(deflate, _parts(layer, rows, each)),
            shape=(height, width, 3),
            dtype="uint8",
            photometric="rgb",
            rowsperstrip=rows,
            compression="zlib",
            predictor=True,
            software=SOFTWARE,
            description=label.text.encode(),
            metadata=None,
            resolution=resolution(label.mpp),
            resolutionunit=UNIT if label.mpp else None,
        )
