"""The codec chain of each array, and the short way from a stored chunk to a picture's planes.

Pictures are transposed to planes before they are compressed: planes compress better and are what training feeds to a
network. A picture is one blosc block: long runs of equal bits compress better and faster than blosc's own small blocks,
and the bytes cannot depend on the order in which blosc's threads finish. Every chain ends in crc32c, because Zarr
itself hands out damaged chunks without a word. The choice is measured in `store/README.md`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec, ZstdCodec

from store.arrays import ArrayPlan
from store.schema import Codec, StoreError

CHECKSUM = 4  # bytes of crc32c behind a chunk and behind a shard's index


def encoding(plan: ArrayPlan, codec: Codec = Codec.PORTABLE) -> dict[str, Any]:
    """The codecs of an array as keyword arguments of `zarr.create_array`."""
    if not plan.pictures:
        return {"compressors": [ZstdCodec(level=5), Crc32cCodec()]}
    rank = len(plan.shape)
    planes = (*range(rank - 3), rank - 1, rank - 3, rank - 2)  # …,y,x,rgb → …,rgb,y,x
    return {
        "filters": [TransposeCodec(order=planes)],
        "compressors": [
            BloscCodec(typesize=1, cname="zstd", clevel=1, shuffle="bitshuffle", blocksize=prod(plan.chunk)),
            Crc32cCodec(),
        ],
    }


def decode_planes(chunk: bytes, out: NDArray[np.uint8], codec: Codec = Codec.PORTABLE) -> None:
    """Decode one stored picture into `out`, u8 [3,S,S] contiguous. Raises StoreError if the chunk is damaged."""
    body = checked(chunk)
    if not out.flags.c_contiguous:
        raise ValueError("planes are decoded into contiguous memory only")
    blosc.decompress(body, out)


def checked(data: bytes) -> bytes:
    """`data` without the crc32c at its end; StoreError if the two do not agree."""
    body, checksum = data[:-CHECKSUM], int.from_bytes(data[-CHECKSUM:], "little")
    if len(data) <= CHECKSUM or google_crc32c.value(body) != checksum:
        raise StoreError("its checksum is wrong: the bytes on disk were altered")
    return body
