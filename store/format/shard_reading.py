"""Where the pictures of a shard are: its index, and which pictures one read can get.

An index is believed only as far as it can be true: it may have been written by anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from store.format.codec import CHECKSUM, MISSING, checked
from store.location.base import Location
from store.schema import StoreError

SLACK = 1 << 16  # bytes; noise takes more than its own size when it is packed
FARTHEST = 1 << 60  # of an offset in a shard, bytes


def read_index(location: Location, shard: str, chunks: int, picture: int) -> NDArray[np.uint64]:
    """Offset and length of each chunk of a shard, u64 [chunk, 2], from its end; a `picture` has that many bytes."""
    length = chunks * 16 + CHECKSUM
    data = location.read_end(shard, length)
    if len(data) < length:
        raise StoreError("the shard is too short")
    index = np.frombuffer(checked(data), "<u8").reshape(chunks, 2)
    written = index[index[:, 0] != MISSING]
    written = written[np.argsort(written[:, 0])]
    if (written[:, 1] > 2 * picture + SLACK).any() or (written[:, 0] > FARTHEST).any():
        raise StoreError("its index names bytes that no picture takes")
    if (written[:-1].sum(axis=1, dtype=np.uint64) > written[1:, 0]).any():
        raise StoreError("its index names the same bytes for two pictures")
    return index


def side_by_side(spans: Sequence[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Groups of (offset, length, position) in which each begins where the one before ends."""
    group: list[tuple[int, int, int]] = []
    for span in spans:
        if group and span[0] != sum(group[-1][:2]):
            yield group
            group = []
        group.append(span)
    yield group


def neighbours(wanted: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Groups of (slot, position) with consecutive slots: a shard holds its pictures in the order of rows."""
    group: list[tuple[int, int]] = []
    for slot, n in wanted:
        if group and slot > group[-1][0] + 1:
            yield group
            group = []
        group.append((slot, n))
    yield group


def read_chunk(location: Location, shard: str, offset: int, length: int) -> bytes:
    """The bytes of one picture, or of several that are side by side. Raises StoreError if they were never written."""
    if offset >= MISSING:
        raise StoreError("the picture was never written")
    data = location.read_at(shard, offset, length)
    if len(data) < length:
        raise StoreError("the shard is too short")
    return data
