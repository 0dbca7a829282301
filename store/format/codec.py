"""The codec chain of each array, and the short way from a stored chunk to the planes of a picture.

A portable store uses Zarr's core codecs only. Pictures are transposed to planes before compression: planes compress
better, and a network takes planes. A picture is one blosc block: long runs of equal bits compress better and faster
than blosc's own small blocks, and the bytes cannot depend on the order in which blosc's threads finish. A compact store
holds pictures as JPEG-XL, not as planes: its colour transform saves a quarter of the bytes. Every chain ends in crc32c,
because Zarr returns damaged chunks without an error. `store/README.md` has the measurements behind this choice.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray
from zarr import Array, Group
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec, ZstdCodec

from store.format.jpegxl import JpegXl, jpegxl_library, pack, unpack
from store.format.layout import ArrayPlan
from store.schema import Codec, StoreError

if TYPE_CHECKING:
    from zarr.core.array_spec import ArrayConfigParams

KEEP_ZEROS: ArrayConfigParams = {"write_empty_chunks": True}  # of an open handle; zarr does not store it
MISSING = np.iinfo(np.uint64).max  # marks a chunk that was never written in the index of a shard
CHECKSUM = 4  # bytes of crc32c after a chunk and after the index of a shard
NBYTES = slice(4, 8)  # the number of bytes after unpacking, in the header of blosc


def encoding(plan: ArrayPlan, codec: Codec = Codec.PORTABLE) -> dict[str, Any]:
    """The codecs of an array as keyword arguments of `zarr.create_array`."""
    if not plan.pictures:
        return {"compressors": [ZstdCodec(level=5), Crc32cCodec()]}
    if codec is Codec.COMPACT:
        return {"filters": [], "serializer": JpegXl(), "compressors": [Crc32cCodec()]}
    rank = len(plan.shape)
    planes = (*range(rank - 3), rank - 1, rank - 3, rank - 2)  # …,y,x,rgb → …,rgb,y,x
    return {
        "filters": [TransposeCodec(order=planes)],
        "compressors": [
            BloscCodec(typesize=1, cname="zstd", clevel=1, shuffle="bitshuffle", blocksize=prod(plan.chunk)),
            Crc32cCodec(),
        ],
    }


def add_array(
    group: Group, name: str, plan: ArrayPlan, shape: tuple[int, ...], codec: Codec = Codec.PORTABLE
) -> Array[Any]:
    """An array of a store, or of one unit of it, in a group."""
    return group.create_array(
        name,
        shape=shape,
        dtype=plan.dtype,
        chunks=plan.chunk,
        shards=plan.shard if plan.pictures else None,
        dimension_names=plan.dimensions,
        fill_value=0,
        config=KEEP_ZEROS,
        **encoding(plan, codec),
    )


def require(codec: Codec) -> None:
    """Raise StoreError if the library of a codec is not installed; called once, before the first picture."""
    if codec is Codec.COMPACT:
        jpegxl_library()


def encode_picture(picture: NDArray[np.uint8], codec: Codec = Codec.PORTABLE) -> bytes:
    """One chunk of a picture u8 [S,S,3]: the bytes that zarr makes with the chain of `encoding`."""
    if codec is Codec.COMPACT:
        return with_checksum(pack(picture))
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1))
    packed: bytes = blosc.compress(planes, b"zstd", 1, blosc.BITSHUFFLE, planes.nbytes, 1)
    return with_checksum(packed)


def with_checksum(body: bytes) -> bytes:
    """`body` and its crc32c."""
    return body + int(google_crc32c.value(body)).to_bytes(CHECKSUM, "little")


def decode_planes(chunk: bytes, out: NDArray[np.uint8], codec: Codec = Codec.PORTABLE) -> None:
    """Decode one stored picture into `out`, u8 [3,S,S] contiguous.

    Raises StoreError if the chunk is damaged or holds another side, or if the library of the codec is not installed.
    """
    body = checked(chunk)
    if not out.flags.c_contiguous:
        raise ValueError(f"planes {list(out.shape)} are not contiguous; decode into contiguous memory")
    if codec is Codec.COMPACT:
        picture = np.empty((*out.shape[1:], 3), np.uint8)  # [S,S,3]: the decoder does not write planes
        unpack(body, picture)
        out[...] = picture.transpose(2, 0, 1)
        return
    if int.from_bytes(body[NBYTES], "little") != out.nbytes:  # blosc would not fill the rest of `out`
        raise StoreError(f"its bytes are not a picture u8 {list(out.shape)}")
    try:
        blosc.decompress(body, out)
    except RuntimeError as error:
        raise StoreError(f"its bytes are not a blosc chunk ({error})") from error


def checked(data: bytes) -> bytes:
    """`data` without the crc32c at its end. Raises StoreError if the two do not agree."""
    body, checksum = data[:-CHECKSUM], int.from_bytes(data[-CHECKSUM:], "little")
    if len(data) <= CHECKSUM or google_crc32c.value(body) != checksum:
        raise StoreError("its checksum is wrong: the bytes on disk were altered")
    return body
