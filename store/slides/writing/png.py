"""A PNG of any size, in parts: each is compressed on its own and they are joined, so that memory is bounded.

Sources: PNG specification, third edition; RFC 1950 (zlib: its checksum is over all parts) and 1951 (deflate: a stream
that is flushed ends at a whole byte). Each pixel is stored less its left neighbour (filter Sub).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from store.images import PictureU8
from store.machine.threads import in_order
from store.slides.writing.labels import SOFTWARE, UM_PER_M, Label

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEVEL = 1  # on tissue 62 MB/s; level 6 makes 24 MB/s and 1 % more bytes
_RGB_8_BITS = b"\x08\x02\x00\x00\x00"
_SUB, _METRE = 1, 1
_MOST_NUMBER = 2**31 - 1
_ZLIB_HEAD, _LAST_BLOCK = b"\x78\x01", b"\x03\x00"  # an empty block that ends the stream


def write_png(file: BinaryIO, height: int, width: int, parts: Iterable[PictureU8], label: Label) -> None:
    """Write parts u8 [h,width,3], which follow each other from top to bottom, as an RGB PNG."""
    file.write(SIGNATURE + _chunk(b"IHDR", struct.pack(">II", width, height) + _RGB_8_BITS))
    if label.mpp is not None and 0 < (per_metre := round(UM_PER_M / label.mpp)) <= _MOST_NUMBER:
        file.write(_chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, _METRE)))
    for key, text in ((b"Software", SOFTWARE), (b"Description", label.text)):
        file.write(_chunk(b"iTXt", key + b"\0\0\0\0\0" + text.encode()))
    checksum, head = 1, _ZLIB_HEAD
    for filtered, packed in in_order(_pack, parts):
        checksum = zlib.adler32(filtered, checksum)
        file.write(_chunk(b"IDAT", head + packed))
        head = b""
    file.write(_chunk(b"IDAT", _LAST_BLOCK + struct.pack(">I", checksum)) + _chunk(b"IEND", b""))


def _pack(part: PictureU8) -> tuple[bytes, bytes]:
    """Rows, each with the number of its filter before it, and the same compressed."""
    height, width = part.shape[:2]
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _SUB
    rows[:, 1:4] = part[:, 0]
    rows[:, 4:] = (part[:, 1:] - part[:, :-1]).reshape(height, -1)
    filtered = rows.tobytes()
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return filtered, stream.compress(filtered) + stream.flush(zlib.Z_FULL_FLUSH)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
