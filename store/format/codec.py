"""The codec chain of each array, and the short way from a stored chunk to the planes of a picture.

A portable store uses Zarr's core codecs only. Pictures are transposed to planes before compression: planes compress
better, and a network takes planes. A picture is one blosc block: long runs of equal bits compress better and faster
than blosc's own small blocks, and the bytes cannot depend on the order in which blosc's threads finish. A compact store
holds pictures as JPEG-XL, not as planes: its colour transform saves a quarter of the bytes. Every chain ends in crc32c,
because Zarr returns damaged chunks without an error. `store/README.md` has the measurements behind this choice.
"""

from __future__ import annotations

import struct
from math import prod
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from numcodecs import blosc, zstd
from numpy.typing import NDArray
from zarr import Array, Group
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec, ZstdCodec

from store.format.jpegxl import JpegXl, jpegxl_library, pack, unpack
from store.format.layout import ArrayPlan
from store.schema import Codec, StoreError

if TYPE_CHECKING:
    from zarr.core.array_spec import ArrayConfigParams

Parts = tuple[bytes, ...]  # bytes that belong side by side
KEEP_ZEROS: ArrayConfigParams = {"write_empty_chunks": True}  # of an open handle; zarr does not store it
MISSING = np.iinfo(np.uint64).max  # marks a chunk that was never written in the index of a shard
NUMBERS_LEVEL = 5  # of zstd
CHECKSUM = 4  # bytes of crc32c after a chunk and after the index of a shard
ROW_BYTES, TEXT_BYTES = 1 << 13, 1 << 26  # of a text in a table, on average over those of a file, and of all of them
BLOSC = struct.Struct("<BBBBIII")  # blosc 1: version, version of the coder, flags, bytes of a number, three lengths
BLOSC_VERSION = 2
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1


def encoding(plan: ArrayPlan, codec: Codec = Codec.PORTABLE) -> dict[str, Any]:
    """The codecs of an array as keyword arguments of `zarr.create_array`."""
    if not plan.pictures:
        return {"compressors": [ZstdCodec(level=NUMBERS_LEVEL), Crc32cCodec()]}
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
    return b"".join(encode_parts(picture, codec))


def encode_parts(picture: NDArray[np.uint8], codec: Codec) -> Parts:
    """The chunk of a picture u8 [S,S,3] and its checksum, apart: nothing is copied to put them side by side."""
    if codec is Codec.COMPACT:
        return _checksummed(pack(picture))
    planes = _planes(picture)
    return _checksummed(blosc.compress(planes, b"zstd", 1, blosc.BITSHUFFLE, planes.nbytes, 1))


def encode_numbers(rows: NDArray[Any], plan: ArrayPlan) -> bytes:
    """The one chunk of numbers that a unit owns, filled up with zeros: the bytes that zarr makes, which takes 5 ms."""
    chunk = np.zeros(plan.chunk, np.dtype(plan.dtype).newbyteorder("<"))
    chunk[: len(rows)] = rows
    return with_checksum(zstd.compress(chunk, NUMBERS_LEVEL))


def with_checksum(body: bytes) -> bytes:
    """`body` and its crc32c."""
    return b"".join(_checksummed(body))


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
    _check_blosc(body, out)
    try:
        blosc.decompress(body, out)
    except RuntimeError as error:
        raise StoreError(f"its bytes are not a blosc chunk ({error})") from error


def unpack_numbers(body: bytes, out: NDArray[Any]) -> NDArray[Any]:
    """Decode the zstd frame of a table into `out`, contiguous, and return it. Raises StoreError if it does not fit."""
    _unpack_zstd(body, out.nbytes, out)
    return out


def unpack_text(body: bytes, rows: int) -> list[str]:
    """The texts in the zstd frame of a table, of which there are `rows` (codec vlen-utf8). Raises StoreError.

    The number of texts, then the length and the bytes of each, all numbers u32.
    """
    size = frame_size(body)
    if not 4 * (rows + 1) <= size <= min(4 * (rows + 1) + ROW_BYTES * rows, TEXT_BYTES):
        raise StoreError(f"its bytes are not {rows} texts")
    data = np.empty(size, np.uint8)
    _unpack_zstd(body, size, data)
    raw, place, texts = data.tobytes(), 4, list[bytes]()
    while place < size:
        end = place + 4 + int.from_bytes(raw[place : place + 4], "little")
        texts.append(raw[place + 4 : end])
        place = end
    if place != size or len(texts) != rows or int.from_bytes(raw[:4], "little") != rows:
        raise StoreError(f"its bytes are not {rows} texts")
    try:
        return [text.decode() for text in texts]
    except UnicodeDecodeError as error:
        raise StoreError(f"its texts are not UTF-8 ({error})") from error


def frame_size(body: bytes) -> int:
    """The bytes that a zstd frame says it holds, -1 if it does not say (RFC 8878, section 3.1.1.1). StoreError."""
    if len(body) < 6 or not body.startswith(ZSTD_MAGIC):
        raise StoreError("its bytes are no zstd frame")
    single, flag, dictionary = body[4] >> 5 & 1, body[4] >> 6, body[4] & 3
    place = 5 + (not single) + (0, 1, 2, 4)[dictionary]
    width = (single, 2, 4, 8)[flag]
    size = int.from_bytes(body[place : place + width], "little")
    return -1 if width == 0 else size + (256 if width == 2 else 0)


def _checksummed(body: bytes) -> Parts:
    return body, int(google_crc32c.value(body)).to_bytes(CHECKSUM, "little")


def _planes(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture u8 [S,S,3] as planes, u8 [3,S,S] contiguous."""
    import cv2  # only to write: a store is read without it

    planes = np.empty((3, *picture.shape[:2]), np.uint8)
    cv2.split(picture, list(planes))  # a quarter of the time that numpy takes
    return planes


def _unpack_zstd(body: bytes, size: int, out: NDArray[Any]) -> None:
    """Decode a zstd frame into `out`, whose `size` in bytes must be that in the header."""
    if frame_size(body) != size:
        raise StoreError(f"its bytes do not unpack to the {size:,} bytes of such a table")
    try:
        zstd.decompress(body, out)
    except (RuntimeError, ValueError) as error:
        raise StoreError(f"its bytes are not a zstd frame ({error})") from error


def _check_blosc(body: bytes, out: NDArray[np.uint8]) -> None:
    """Compare the lengths in the header of a blosc chunk, which blosc believes, with those that are known."""
    if len(body) < BLOSC.size:
        raise StoreError(f"its bytes are not a picture u8 {list(out.shape)}: they are too few for a blosc chunk")
    version, _, _, _, unpacked, block, packed = BLOSC.unpack_from(body)
    if version != BLOSC_VERSION or packed != len(body):  # blosc would read beyond `body`
        raise StoreError(f"its bytes are not a blosc chunk of {len(body):,} bytes")
    if unpacked != out.nbytes or not 0 < block <= unpacked:  # blosc would not fill the rest of `out`
        raise StoreError(f"its bytes are not a picture u8 {list(out.shape)}")


def checked(data: bytes) -> bytes:
    """`data` without the crc32c at its end. Raises StoreError if the two do not agree."""
    body, checksum = data[:-CHECKSUM], int.from_bytes(data[-CHECKSUM:], "little")
    if len(data) <= CHECKSUM or google_crc32c.value(body) != checksum:
        raise StoreError("its checksum is wrong: the bytes on disk were altered")
    return body
