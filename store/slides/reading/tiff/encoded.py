"""The size of a picture that is packed as JPEG or JPEG 2000, by its own header: decoders allocate what that says."""

from __future__ import annotations

import struct

from store.pictures.containers import JPEG_END, jpeg_markers

Size = tuple[int, int]  # height and width, px

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # ITU T.81, table B.1


def jpeg_size(data: bytes) -> Size | None:
    """Height and width of a JPEG that reaches its end marker; None if it does not, or has no frame or two."""
    if not data.startswith(b"\xff\xd8"):
        return None
    size: Size | None = None
    for marker, place in jpeg_markers(data):
        if marker == JPEG_END:
            return size
        if marker in _FRAMES:
            if size or place + 7 > len(data):
                return None
            size = struct.unpack_from(">HH", data, place + 3)
    return None


def jpeg_2000_size(data: bytes) -> Size | None:
    """Height and width of a codestream of JPEG 2000, alone or in a file (ITU T.800, A.5.1); None if it has none."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    try:
        right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
    except struct.error:
        return None
    return (bottom - top, right - left) if start >= 0 else None
