"""Chunks of a Zarr array: found in their files, unpacked to exactly the bytes that they must have."""

from __future__ import annotations

import math
import zlib
from struct import Struct
from typing import BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.pictures.ordinary import reading
from store.slides.reading.zarr_array import Packing, Shards, ZarrArray

CHECKSUM = 4  # bytes of a crc32c
MISSING = (1 << 64) - 1  # the offset of a chunk that a shard does not hold
BLOSC = Struct("<BBBBIII")  # version, version of the coder, flags, bytes of a number, three lengths
BLOSC_VERSION = 2
SLACK = 1 << 16  # bytes; noise takes more than its own size when it is packed
EITHER = zlib.MAX_WBITS | 32  # the head of zlib or gzip, whichever is there


class DamagedChunkError(ValueError):
    """A chunk whose bytes are not those of such a chunk."""


def read_chunk(array: ZarrArray, place: tuple[int, ...]) -> NDArray[np.uint8]:
    """The chunk at a place in the grid of chunks, u8 with the axes and the shape of the array's chunks.

    Raises PictureError for a file that cannot be read, DamagedChunkError for what is in it.
    """
    body = _packed(array, place)
    if body is None:
        return np.full(array.chunks, array.fill, dtype=np.uint8)
    for step in reversed(array.steps):
        body = _unpack(body, step, array.chunk_bytes)
    if len(body) != array.chunk_bytes:
        raise DamagedChunkError(f"it has {len(body):,} bytes, not {array.chunk_bytes:,}")
    written = tuple(array.chunks[axis] for axis in array.order)
    return np.frombuffer(body, dtype=np.uint8).reshape(written).transpose(np.argsort(array.order))


def _packed(array: ZarrArray, place: tuple[int, ...]) -> bytes | None:
    """The bytes of a chunk as its file has them; None if it was never written."""
    counts = [whole // part for whole, part in zip(array.file_shape, array.chunks, strict=True)]  # chunks of a file
    path = array.file(tuple(one // count for one, count in zip(place, counts, strict=True)))
    if not path.exists():
        return None
    with reading(path), path.open("rb") as file:
        size = path.stat().st_size
        offset, length = 0, size
        if array.shards is not None:
            slot = np.ravel_multi_index([one % count for one, count in zip(place, counts, strict=True)], counts)
            offset, length = (int(number) for number in _index(file, array.shards, math.prod(counts), size)[slot])
        if offset == MISSING:
            return None
        if length > array.chunk_bytes * 9 // 8 + SLACK or offset + length > size:
            raise DamagedChunkError(f"it takes {length:,} bytes at byte {offset:,}, and its file has {size:,}")
        file.seek(offset)
        return file.read(length)


def _index(file: BinaryIO, shards: Shards, chunks: int, size: int) -> NDArray[np.uint64]:
    """Offset and length of each chunk of a shard of `size` bytes, u64 [chunks,2]."""
    length = 16 * chunks + CHECKSUM * len(shards.index)
    if length > size:
        raise DamagedChunkError("its shard is too short")
    file.seek(0 if shards.index_first else size - length)
    body = file.read(length)
    for step in shards.index:
        body = _unpack(body, step, 16 * chunks)
    return np.frombuffer(body, "<u8").reshape(chunks, 2)


def _unpack(body: bytes, step: Packing, size: int) -> bytes:
    """Undo one step; what it makes has at most `size` bytes and a checksum. Raises DamagedChunkError."""
    import imagecodecs

    most = size + CHECKSUM
    try:
        if step is Packing.CRC32C:
            if google_crc32c.value(body[:-CHECKSUM]) != int.from_bytes(body[-CHECKSUM:], "little"):
                raise DamagedChunkError("its checksum is wrong")
            return body[:-CHECKSUM]
        if step is Packing.BLOSC:
            _check_blosc(body, most)
            return bytes(imagecodecs.blosc_decode(body, numthreads=1))
        if step is Packing.ZSTD:
            return bytes(imagecodecs.zstd_decode(body, out=most))
        unpacker = zlib.decompressobj(EITHER)
        data = unpacker.decompress(body, most)
        if not unpacker.eof:
            raise DamagedChunkError("it breaks off, or is too long")
    except (zlib.error, imagecodecs.BloscError, imagecodecs.ZstdError, ValueError, RuntimeError) as error:
        raise DamagedChunkError(str(error)) from error
    return data


def _check_blosc(body: bytes, most: int) -> None:
    """Compare the lengths in the header of a blosc chunk, which blosc believes, with those that are known."""
    if len(body) < BLOSC.size:
        raise DamagedChunkError("it is too short")
    version, _, _, _, unpacked, block, packed = BLOSC.unpack_from(body)
    if version != BLOSC_VERSION or packed != len(body) or unpacked > most or not 0 < block <= max(unpacked, 1):
        raise DamagedChunkError("its header does not fit its bytes")
