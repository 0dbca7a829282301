"""Names for pictures that are whole but that no decoder here reads, and what to convert them to.

Numbers of compressions: TIFF 6.0, section 7; Adobe's and the registered private ones as in tifffile's documentation.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from PIL import Image, TiffImagePlugin

CONVERT = "convert it to PNG"
BY_HAND = "for example with `vips copy` or QuPath"
_ISO_MEDIA = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"crx ": "CR3"}
_FORMATS = (  # first bytes, and where they are
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (8, b"WEBP", "WebP"),
    (0, b"GIF8", "GIF"),
    (0, b"II\xbc", "JPEG XR"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"ZISRAWFILE", "CZI"),
    (128, b"DICM", "DICOM"),
)
_COMPRESSIONS = {
    22610: "JPEG XR",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34676: "SGI Log",
    34677: "SGI Log",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of DNG",
    34925: "LZMA",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
UNREAD = {".webp", ".jxl", ".jp2", ".j2k", ".jpx", ".avif", ".heic", ".heif", ".gif", ".jxr", ".dcm", ".psd", ".exr"}
UNREAD |= {".svs", ".ndpi", ".mrxs", ".czi", ".scn", ".vsi", ".bif"}  # whole slides
_OPTIONAL = {"lzma", "webp", "zstd"}  # libtiff may have been built without them
_NEVER = {"tiff_sgilog", "tiff_sgilog24"}  # hold no 8-bit RGB
_FRAMES = {0xC3: "a lossless JPEG", 0xC9: "an arithmetically coded JPEG", 0xCA: "an arithmetically coded JPEG"}
_FRAMES |= {0xF7: "JPEG-LS", 0xCB: "an arithmetically coded JPEG"}  # by the marker of the frame: ITU T.81, table B.1
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # bands by PhotometricInterpretation: TIFF 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffKind:
    """How the first page of a TIFF keeps its pixels, by the numbers of TIFF 6.0; 0 and () where it does not say."""

    photometric: int = 0
    bands: int = 0
    extra: tuple[int, ...] = ()  # what the bands beyond the colours are: 1 and 2 are alpha
    number_format: int = 0  # 1 unsigned, 2 signed, 3 floating point

    @property
    def dropped(self) -> tuple[int, ...]:
        """The bands, counted from 1, that are neither a colour nor alpha: decoders leave them out silently."""
        first = _COLOURS.get(self.photometric, self.bands) + 1
        first += 1 if self.extra[:1] in ((1,), (2,)) or not self.extra else 0
        return tuple(range(first, self.bands + 1))


def unread_suffixes(names: Iterable[str]) -> str:
    """How many files have the suffix of a picture that is not read here, and what to do; empty if none has.

    >>> unread_suffixes(["a.WebP", "b.webp", "c.txt"])
    '2 .webp files, which are not read here: convert them to PNG, for example with `vips copy` or QuPath'
    """
    counts = Counter(suffix for name in names if (suffix := PurePosixPath(name).suffix.lower()) in UNREAD)
    found = " and ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
    return f"{found} files, which are not read here: convert them to PNG, {BY_HAND}" if found else ""


def format_refusal(data: bytes) -> str:
    """Why a file that is neither JPEG, PNG, TIFF nor BMP is not read, if its first bytes are those of a known picture.

    >>> format_refusal(b"RIFF....WEBPVP8 ").partition(":")[0]
    'holds WebP, which is not read here'
    """
    name = next((name for place, start, name in _FORMATS if data.startswith(start, place)), "")
    if data[4:8] == b"ftyp":
        name = _ISO_MEDIA.get(data[8:12], name)
    return f"holds {name}, which is not read here: {CONVERT}, {BY_HAND}" if name else ""


def compression_refusal(compression: int) -> str:
    """Why a TIFF of this compression is not read; empty if Pillow here decodes it."""
    if _decodes(compression):
        return ""
    name = _COMPRESSIONS.get(compression, f"method {compression}")
    return (
        f"is a TIFF compressed with {name}, which Pillow here cannot read: {CONVERT} or to a TIFF compressed with "
        f"deflate or LZW, {BY_HAND}"
    )


def tiff_refusal(kind: TiffKind) -> str:
    """Why a TIFF that is whole is not decoded; empty if nothing about its kind explains it."""
    if kind.number_format == 2:
        return "is a TIFF of signed integers; scale it to 8-bit RGB yourself"
    if kind.bands > 4:
        return f"is a TIFF of {kind.bands} bands, more than are read here; save red, green and blue alone, 8 bits each"
    return ""


def jpeg_refusal(data: bytes) -> str:
    """Why a JPEG that is whole is not decoded; empty if nothing about its kind explains it."""
    place = 2
    while data[place : place + 1] == b"\xff" and place + 5 <= len(data):
        marker = data[place + 1]
        if marker in _FRAMES:
            return f"is {_FRAMES[marker]}, which Pillow here cannot read: {CONVERT}, {BY_HAND}"
        if 0xC0 <= marker <= 0xC2:
            return f"is a JPEG of {data[place + 4]} bits, more than a store keeps" if data[place + 4] > 8 else ""
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return ""


def _decodes(compression: int) -> bool:
    """Whether Pillow here decodes a compression of TIFF: what can be missing is tried on a small picture."""
    name = TiffImagePlugin.COMPRESSION_INFO.get(compression)
    if not compression or name not in _OPTIONAL:
        return not compression or (name is not None and name not in _NEVER)
    return _encodes(name)


@lru_cache
def _encodes(name: str) -> bool:
    try:
        Image.new("RGB", (8, 8)).save(io.BytesIO(), "TIFF", compression=name)
    except (OSError, ValueError, RuntimeError):
        return False
    return True
