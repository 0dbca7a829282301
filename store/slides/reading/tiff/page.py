"""One picture of a TIFF file: which kinds are read, and where its segments are. Checked before any is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store.images import REFUSED, PictureU8
from store.pictures.containers import too_many_bits, truncated
from store.pictures.unreadable import TiffKind, tiff_refusal
from store.schema import PictureError
from store.slides.reading.tiff.directories import damaged

if TYPE_CHECKING:
    from tifffile import TiffPage  # takes a quarter of a second to import

RAW, JPEG = 1, 7
JPEG_2000 = {33003, 33004, 33005, 34712}
APERIO, APERIO_YCBCR = "Aperio", 33003
COMPRESSIONS = {RAW: "none", 5: "LZW", JPEG: "JPEG", 8: "deflate", 32946: "deflate", 32773: "PackBits", 50000: "Zstd"}
COMPRESSIONS |= dict.fromkeys(JPEG_2000, "JPEG 2000")
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
_WORDS = {5: REFUSED["CMYK"], 6: REFUSED["YCbCr"], 8: REFUSED["LAB"], 9: REFUSED["LAB"], 10: REFUSED["LAB"]}
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, YCBCR: 3}  # bands
FLOATING = 3
LARGEST = 1 << 20  # px of a side


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A picture of height x width px in `segments` of rows x columns px, row by row, and plane by plane if `planar`.

    `offsets` and `lengths` are where the segments are in the file, in bytes; a length of 0 is a segment that was left
    out. `ycbcr` are bands that are still YCbCr when they are decoded, `colours` those of a palette, u8 [256,3].
    `decode` is tifffile's, with the `tables` that all JPEGs of the picture share.
    """

    height: int
    width: int
    rows: int
    columns: int
    bands: int
    planar: bool
    photometric: int
    compression: int
    bits: int
    kind: TiffKind
    ycbcr: bool
    offsets: NDArray[np.uint64]
    lengths: NDArray[np.uint64]
    colours: PictureU8
    decode: Callable[..., Any]
    tables: bytes | None

    @property
    def across(self) -> int:
        """Segments from left to right."""
        return -(-self.width // self.columns)

    @property
    def down(self) -> int:
        """Segments from top to bottom."""
        return -(-self.height // self.rows)

    @property
    def alpha(self) -> int | None:
        """Which band says what is transparent: the first beyond the colours, unless it is called otherwise."""
        first = _COLOURS[self.photometric]
        return first if self.bands > first and first + 1 not in self.kind.dropped else None

    @property
    def segment_bytes(self) -> int:
        """What a segment takes while it is decoded, with all bands and as RGB."""
        return self.rows * self.columns * (max(3, self.bands) + 3)


def check_page(path: Path, parsed: TiffPage, size: int, memory: int) -> Page:
    """The facts of a directory in a file of `size` bytes. Raises PictureError where it is not read, and says why."""
    bits = parsed.bitspersample if isinstance(parsed.bitspersample, int) else max(parsed.bitspersample)
    kind = TiffKind(
        photometric=int(parsed.photometric),
        bands=int(parsed.samplesperpixel),
        extra=tuple(int(extra) for extra in parsed.extrasamples),
        number_format=int(parsed.sampleformat),
    )
    if refusal := _refusal(parsed, kind, bits):
        raise PictureError(f"{path}: {refusal}")
    if bits > 8:
        raise too_many_bits(path, bits)
    height, width = int(parsed.imagelength), int(parsed.imagewidth)
    rows = int(parsed.tilelength if parsed.is_tiled else min(parsed.rowsperstrip or height, height))
    columns = int(parsed.tilewidth if parsed.is_tiled else width)
    if not all(0 < side <= LARGEST for side in (height, width, rows, columns)):
        raise damaged(path, f"a picture of {width:,} x {height:,} px in segments of {columns:,} x {rows:,} px")
    planar, compression = int(parsed.planarconfig) == 2 and kind.bands > 1, int(parsed.compression)
    page = Page(
        height=height,
        width=width,
        rows=rows,
        columns=columns,
        bands=kind.bands,
        planar=planar,
        photometric=kind.photometric,
        compression=compression,
        bits=bits,
        kind=kind,
        ycbcr=compression in JPEG_2000 and (kind.photometric == YCBCR or _is_aperios_ycbcr(parsed)),
        offsets=np.array(parsed.dataoffsets, dtype=np.uint64),
        lengths=np.array(parsed.databytecounts, dtype=np.uint64),
        colours=_palette(path, parsed) if kind.photometric == PALETTE else np.zeros((0, 3), dtype=np.uint8),
        decode=parsed.decode,
        tables=parsed.jpegtables,
    )
    _check_segments(path, page, size)
    if page.segment_bytes > memory:
        raise PictureError(
            f"{path}: has strips or tiles of {columns:,} x {rows:,} px, which take {page.segment_bytes / 2**30:,.1f} "
            f"GiB to decode, more than the {memory / 2**30:,.1f} GiB allowed: convert it to a tiled TIFF, e.g. "
            "`vips tiffsave IN OUT.tif --tile --pyramid`, or allow more: --set memory=GIB"
        )
    return page


def _refusal(parsed: TiffPage, kind: TiffKind, bits: int) -> str:
    """Why a picture is not read as RGB; empty if it is."""
    compression, photometric = int(parsed.compression), kind.photometric
    if kind.number_format == FLOATING:
        return REFUSED["F"]
    if int(parsed.imagedepth) > 1 or int(parsed.tiledepth) > 1:
        return f"holds a volume of {int(parsed.imagedepth)} depths; save the one that is meant as a file of its own"
    if photometric == YCBCR and compression in {JPEG, *JPEG_2000} and (kind.bands, parsed.planarconfig) == (3, 1):
        pass  # decoders make RGB of it
    elif photometric == YCBCR and parsed.planarconfig != 1:
        return "has YCbCr in planes of their own, of which readers make different colours; save it as interleaved RGB"
    elif photometric in _WORDS:
        return _WORDS[photometric]
    elif photometric not in _COLOURS or kind.bands < _COLOURS[photometric]:
        return f"has {kind.bands} bands of kind {photometric} (TIFF PhotometricInterpretation); save it as 8-bit RGB"
    if refusal := tiff_refusal(kind):
        return refusal
    if compression not in COMPRESSIONS:
        readable = ", ".join(dict.fromkeys(COMPRESSIONS.values()))
        return f"is compressed with method {compression}, which is not read here ({readable} are); save it with deflate"
    if bits < 8 and (bits > 1 or photometric == PALETTE):
        return f"has {bits} bits per channel; save it as 8-bit RGB"
    if (turn := int(parsed.tags.valueof(274, 1))) != 1:
        return f"is stored turned or mirrored (TIFF Orientation {turn}), which is read of small pictures only; turn it"
    return ""


def _is_aperios_ycbcr(parsed: TiffPage) -> bool:
    """Whether this is Aperio's JPEG 2000 of YCbCr, which says RGB; Bio-Formats writes RGB under the same number."""
    return int(parsed.compression) == APERIO_YCBCR and str(parsed.description).startswith(APERIO)


def _palette(path: Path, parsed: TiffPage) -> PictureU8:
    """The colours of a palette, u8 [256,3]: the higher byte of each."""
    colours = np.array(parsed.tags.valueof(320, ()), dtype=np.uint16)
    if colours.size != 3 * 256:
        raise damaged(path, f"a palette of {colours.size} numbers")
    return (colours.reshape(3, 256).T >> 8).astype(np.uint8)


def _check_segments(path: Path, page: Page, size: int) -> None:
    """Raise PictureError unless each segment that a picture needs is inside the file."""
    needed = page.down * page.across * (page.bands if page.planar else 1)
    if not len(page.offsets) == len(page.lengths) == needed:
        found = min(len(page.offsets), len(page.lengths))
        raise damaged(path, f"{page.width:,} x {page.height:,} px need {needed:,} segments, and it lists {found:,}")
    if (page.offsets > size).any() or (page.lengths > size - page.offsets).any():
        raise truncated(path, "TIFF", size)
