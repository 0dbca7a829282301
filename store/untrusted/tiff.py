"""How many pictures a TIFF file holds, counted without reading them (TIFF 6.0, section 2, and BigTIFF)."""

from __future__ import annotations

from struct import Struct


def count_pictures(data: bytes, most: int) -> int:
    """The number of directories in the chain of a TIFF file, at most `most`: its time grows with the square in Pillow.

    A chain that leads outside the file, or back into itself, ends there.
    """
    order = "<" if data.startswith(b"II") else ">"
    big = b"+" in data[2:4]
    count, pointer = Struct(order + "HQ"[big]), Struct(order + "IQ"[big])
    entry = 20 if big else 12  # bytes
    seen: set[int] = set()
    place = 8 if big else 4  # of the pointer to the next directory
    while place + pointer.size <= len(data) and len(seen) < most:
        (directory,) = pointer.unpack_from(data, place)
        if not directory or directory in seen or directory + count.size > len(data):
            break
        seen.add(directory)
        place = directory + count.size + entry * count.unpack_from(data, directory)[0]
    return len(seen)
