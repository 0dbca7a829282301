"""Is a picture's file whole? Checks that Pillow does not make: missing ends, checksums, bits per channel."""

from __future__ import annotations

import io
import re
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import TiffImagePlugin

from store.pictures.claims import unpack_profile
from store.pictures.unreadable import TiffKind, compression_refusal, format_refusal
from store.schema import PictureError
from store.untrusted.tiff import count_pictures

HEADER_LOCK = threading.Lock()  # warnings.catch_warnings is not thread-safe

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
}
_COMPRESSION_TAG, _PHOTOMETRIC_TAG, _BITS_TAG, _BANDS_TAG, _EXTRA_TAG, _FORMAT_TAG = 259, 262, 258, 277, 338, 339
MOST_PICTURES = 1000  # that are counted in a file
JPEG_END = 0xD9  # a marker
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in JPEG scans FF00 is a stuffed byte, FFD0 to FFD7 are restarts


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A file that is whole: its kind, the bytes to decode, what Pillow is not asked for.

    The profile of a PNG is taken out: Pillow refuses a picture whose profile is damaged, or longer than 1 MB.
    """

    kind: str
    data: bytes
    tiff: TiffKind = field(default_factory=TiffKind)
    profile: bytes = b""
    code_points: bytes = b""  # of colours, in a PNG: the content of its chunk cICP


def check_container(path: Path, data: bytes) -> Container:
    """The container of a picture's file. Raises PictureError if it is damaged, or holds too many bits or pictures."""
    kind = next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), "")
    if kind == "PNG":
        return _check_png(path, data)
    if kind == "JPEG":
        _check_jpeg(path, data)
    elif kind == "TIFF":
        return Container(kind=kind, data=data, tiff=_check_tiff(path, data))
    elif refusal := "" if kind else format_refusal(data):
        raise PictureError(f"{path}: {refusal}")
    elif not kind:
        raise PictureError(
            f"{path}: is no picture, whatever its name says: it begins with {data[:8]!r}; "
            "give JPEG, PNG, TIFF or BMP files, or leave it out"
        )
    return Container(kind=kind, data=data)


def _check_png(path: Path, data: bytes) -> Container:
    """Walk the chunks: length, type, content, CRC-32 of type and content (PNG specification, section 5.3)."""
    place, name = 8, b""
    chunks: dict[bytes, list[slice]] = {b"iCCP": [], b"cICP": []}
    while name != b"IEND":
        length, name = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        end = place + 12 + length
        if end > len(data):
            raise truncated(path, "PNG", len(data))
        if zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise PictureError(f"{path}: damaged PNG, wrong checksum at byte {place}; fetch or export it again")
        depth = data[place + 16 : place + 17]
        if name == b"IHDR" and depth > b"\x08":
            raise too_many_bits(path, depth[0])
        if name in chunks:
            chunks[name].append(slice(place, end))
        place = end
    profiles, points = ([data[one.start + 8 : one.stop - 4] for one in found] for found in chunks.values())
    for one in reversed(chunks[b"iCCP"]):
        data = data[: one.start] + data[one.stop :]
    profile = unpack_profile(profiles[0]) if profiles else b""
    return Container(kind="PNG", data=data, profile=profile, code_points=points[0] if points else b"")


def jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """The markers of a JPEG, and where what follows each begins, up to its end; bytes after that are ignored."""
    place = 2
    while (found := _MARKER.search(data, place)) is not None:
        marker, place = data[found.end() - 1], found.end()
        yield marker, place
        if marker == JPEG_END:
            return
        if marker != 0x01:  # the one marker without a length
            place += int.from_bytes(data[place : place + 2])


def _check_jpeg(path: Path, data: bytes) -> None:
    if JPEG_END not in (marker for marker, _ in jpeg_markers(data)):
        raise truncated(path, "JPEG", len(data))


def _check_tiff(path: Path, data: bytes) -> TiffKind:
    """The kind of the first page. Of its bits: Pillow reads 16-bit RGB as 8-bit and does not support 32-bit RGB."""
    if count_pictures(data, MOST_PICTURES + 1) > MOST_PICTURES:
        raise too_many_pictures(path)
    try:
        with HEADER_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            big = data[2:3] == b"+" or data[3:4] == b"+"
            directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if big else 8])
            stream = io.BytesIO(data)
            stream.seek(directory.next)
            directory.load(stream)
            bits = max(directory.get(_BITS_TAG, (1,)))
            kind, compression = _tiff_kind(directory), int(directory.get(_COMPRESSION_TAG, 1))
    except MemoryError:  # of this machine, not of the file
        raise
    except Exception as error:  # a damaged file makes Pillow raise anything from OSError to TypeError
        raise truncated(path, "TIFF", len(data)) from error
    if bits > 8:
        raise too_many_bits(path, bits)
    if refusal := compression_refusal(compression):
        raise PictureError(f"{path}: {refusal}")
    return kind


def _tiff_kind(directory: Mapping[int, Any]) -> TiffKind:
    formats = directory.get(_FORMAT_TAG, (1,))
    return TiffKind(
        photometric=int(directory.get(_PHOTOMETRIC_TAG, 0)),
        bands=int(directory.get(_BANDS_TAG, 1)),
        extra=tuple(directory.get(_EXTRA_TAG, ())),
        number_format=max(formats) if formats else 1,
    )


def too_many_pictures(path: Path) -> PictureError:
    """The error of a file with more pictures than are counted."""
    return PictureError(
        f"{path}: holds more than {MOST_PICTURES:,} pictures; save the one that is meant as a file of its own"
    )


def truncated(path: Path, kind: str, size: int) -> PictureError:
    """The error of a file that has no end."""
    return PictureError(f"{path}: truncated {kind}, it breaks off after {size} bytes; fetch or export it again")


def too_many_bits(path: Path, bits: int) -> PictureError:
    """The error of a picture whose channels have more than 8 bits."""
    return PictureError(f"{path}: has {bits} bits per channel, more than a store keeps; scale it to 8-bit RGB yourself")
