"""A tiled OME-TIFF with its pyramid in SubIFDs, as QuPath and Bio-Formats read it, from tiles that are packed already.

Sources: TIFF 6.0; OME-TIFF specification, OME schema 2016-06. Each level states its own resolution, so that readers
which open one page alone have the right scale too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import tifffile

from store.slides.writing.labels import SOFTWARE, UM_PER_CM, Label
from store.slides.writing.layer import Layer
from store.slides.writing.plan import Packing

CLASSIC_BYTES = 2**32 - 2**26  # of a TIFF with 32-bit offsets; the rest is left for its directories
DIRECTORY_BYTES = 16  # of a tile: where it is and how long
UNIT = "CENTIMETER"  # of the resolution
_SMALLER = 1  # NewSubfileType of a level
_COMPRESSION = {Packing.DEFLATE: "zlib", Packing.JPEG: "jpeg"}  # as tifffile calls them


def write_ome_tiff(
    file: Path, levels: Sequence[Layer], packing: Packing, label: Label, each: Callable[[int], None]
) -> None:
    """Write levels, the largest first, all units of which are there; `each` is told of every row of tiles."""
    total = sum(level.packed_bytes() + DIRECTORY_BYTES * level.tiles.rows * level.tiles.columns for level in levels)
    with tifffile.TiffWriter(file, bigtiff=total > CLASSIC_BYTES, byteorder="<", ome=False, shaped=False) as tiff:
        for number, level in enumerate(levels):
            first = number == 0
            tiff.write(
                _tiles(level, each),
                shape=(level.grid.height, level.grid.width, 3),
                dtype="uint8",
                tile=(level.tiles.side, level.tiles.side),
                compression=_COMPRESSION[packing],
                predictor=packing is Packing.DEFLATE,
                photometric="ycbcr" if packing is Packing.JPEG else "rgb",
                subsampling=(2, 2) if packing is Packing.JPEG else None,
                planarconfig="contig",
                software=SOFTWARE,
                description=to_xml(level, label) if first else None,
                subifds=len(levels) - 1 if first and levels[1:] else None,
                subfiletype=0 if first else _SMALLER,
                metadata=None,
                resolution=resolution(label.mpp, 2**number),
                resolutionunit=UNIT if label.mpp else None,
            )


def resolution(mpp: float | None, times: int = 1) -> tuple[float, float] | None:
    """How many pixels that are `times` as wide as mpp micrometres make a `UNIT`; None if mpp is unknown."""
    return (UM_PER_CM / (mpp * times),) * 2 if mpp else None


def to_xml(level: Layer, label: Label) -> bytes:
    """The OME-XML of a picture. Without a unit a physical size is in micrometres, by the schema."""
    size = "" if label.mpp is None else f' PhysicalSizeX="{label.mpp!r}" PhysicalSizeY="{label.mpp!r}"'
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:schemaLocation="http://www.openmicroscopy.org/Schemas/OME/2016-06 '
        'http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd" '
        f'Creator="{SOFTWARE}"><Image ID="Image:0" Name={quoteattr(label.name)}>'
        f"<Description>{escape(label.text)}</Description>"
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SignificantBits="8" Interleaved="true" '
        f'BigEndian="false" SizeX="{level.grid.width}" SizeY="{level.grid.height}" SizeC="3" SizeZ="1" SizeT="1"{size}>'
        '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )
    return text.encode()


def _tiles(level: Layer, each: Callable[[int], None]) -> Iterator[bytes]:
    for row in range(level.tiles.rows):
        each(level.tiles.columns)
        yield from level.packed(row, range(level.tiles.columns))
