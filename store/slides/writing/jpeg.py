"""A JPEG of any size that JPEG has, strip by strip: each is packed on its own, so that memory is bounded.

Sources: ITU-T T.81: a restart marker (B.1.1.3, E.1.4) begins a part of the scan that needs nothing of those before it,
so the scans of strips of the same width and tables are joined by markers. JFIF 1.02: pixels per cm.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import partial
from typing import BinaryIO

from store.images import PictureU8
from store.machine.threads import in_order
from store.slides.writing.labels import UM_PER_CM, Label
from store.slides.writing.packing import encode_jpeg

MOST_SIDE = 65_500  # px, of libjpeg
STRIP = 16  # rows: one row of blocks, since colours are halved in both directions
_START, _FRAME, _SCAN, _RESTARTS, _COMMENT = b"\xff\xd8", b"\xff\xc0", b"\xff\xda", b"\xff\xdd", b"\xff\xfe"
_JFIF = b"\xff\xe0\x00\x10JFIF\0\x01\x01"
_PER_CM = 2
_END = b"\xff\xd9"
_MOST_NUMBER = 2**16 - 1


def write_jpeg(
    file: BinaryIO, height: int, width: int, strips: Iterable[PictureU8], label: Label, quality: int
) -> None:
    """Write strips u8 [16,width,3], the last of which may have fewer rows, as a JPEG of `quality`, 1 to 100."""
    for number, data in enumerate(in_order(partial(encode_jpeg, quality=quality), strips)):
        begin = _scan_start(data)
        if number:
            file.write(bytes((0xFF, 0xD0 + (number - 1) % 8)))
        else:
            file.write(_head(data[:begin], height, width, label))
        file.write(data[begin : -len(_END)])
    file.write(_END)


def _head(first: bytes, height: int, width: int, label: Label) -> bytes:
    """The head of the whole from that of its first strip: height, scale, a comment, a restart after each strip."""
    blocks = -(-width // STRIP)
    scale = 0 if label.mpp is None else round(UM_PER_CM / label.mpp)
    known = 0 < scale <= _MOST_NUMBER
    jfif = _JFIF + struct.pack(">BHHBB", _PER_CM if known else 0, scale if known else 1, scale if known else 1, 0, 0)
    text = label.text.encode()[: _MOST_NUMBER - 2]
    parts = [_START, jfif, _COMMENT + struct.pack(">H", len(text) + 2) + text]
    for segment in _segments(first):
        if segment.startswith(_FRAME):
            parts.append(segment[:5] + struct.pack(">H", height) + segment[7:])
        elif segment.startswith(_SCAN):
            parts += [_RESTARTS + struct.pack(">HH", 4, blocks), segment]
        elif not segment.startswith(_JFIF[:2]):
            parts.append(segment)
    return b"".join(parts)


def _scan_start(data: bytes) -> int:
    """Where the entropy-coded bytes begin."""
    return len(_START) + sum(map(len, _segments(data)))


def _segments(data: bytes) -> Iterable[bytes]:
    """The segments of a head, up to that of the scan."""
    place = len(_START)
    while True:
        (length,) = struct.unpack_from(">H", data, place + 2)
        segment = data[place : place + 2 + length]
        yield segment
        place += len(segment)
        if segment.startswith(_SCAN):
            return
