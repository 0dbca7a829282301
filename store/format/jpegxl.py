"""The codec of a compact store: a picture is one lossless JPEG-XL image. A codec of Zarr format 3, from array to bytes.

The entry point `magstain.jpegxl` in `pyproject.toml` registers it for every zarr in an environment with magstain.
A chunk is the bare codestream of one 8-bit RGB picture, which any JPEG-XL decoder opens. imagecodecs is
imported when the first picture is packed or unpacked: a portable store does not need it, nor do the tables and boxes of
a compact one. `store/README.md` has the measurements behind the effort.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec

from store.schema import SchemaError, StoreError

if TYPE_CHECKING:
    from types import ModuleType

    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer
    from zarr.core.common import JSON

NAME = "magstain.jpegxl"
EFFORT = 2  # 1 writes ten times as fast, but its bytes depend on the processor: they differ with AVX-512


def jpegxl_library() -> ModuleType:
    """The library imagecodecs. Raises StoreError if it or its JPEG-XL part is not installed."""
    try:
        import imagecodecs

        available = imagecodecs.JPEGXL.available
    except ImportError:
        available = False
    if not available:
        raise StoreError(
            "the pictures of a store with codec = compact are JPEG-XL, which needs an extra: "
            "run `make setup`, or pip install '.[compact]' in the project's folder"
        )
    return imagecodecs


def pack(picture: NDArray[np.uint8], effort: int = EFFORT) -> bytes:
    """A picture u8 [H,W,3] RGB as a lossless JPEG-XL codestream; on one thread, because zarr packs many at a time."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise SchemaError(f"JPEG-XL packs pictures u8 [H,W,3], not {picture.dtype} {list(picture.shape)}")
    return bytes(jpegxl_library().jpegxl_encode(picture, lossless=True, effort=effort, numthreads=1))


def unpack(data: bytes | NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Decode a JPEG-XL codestream into `out`, u8 [H,W,3] contiguous. Raises StoreError if it is not such a picture."""
    try:
        jpegxl_library().jpegxl_decode(data, numthreads=1, out=out)
    except (ValueError, RuntimeError) as error:
        raise StoreError(f"its bytes are not a JPEG-XL picture u8 {list(out.shape)} ({error})") from error


@dataclass(frozen=True)
class JpegXl(ArrayBytesCodec):
    """Lossless JPEG-XL for chunks u8 [1,…,H,W,3] of one picture."""

    is_fixed_size = False

    effort: int = EFFORT

    def __post_init__(self) -> None:
        if self.effort not in range(1, 10):
            raise SchemaError(f"effort {self.effort} of codec {NAME}: must be 1 to 9")

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """The codec from the metadata of an array."""
        configuration: Any = data["configuration"]
        return cls(**configuration)

    def to_dict(self) -> dict[str, JSON]:
        """The codec for the metadata of an array."""
        return {"name": NAME, "configuration": {"effort": self.effort}}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known before a picture is packed; NotImplementedError says so to zarr."""
        raise NotImplementedError

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        array = chunk_array.as_numpy_array()
        if prod(array.shape[:-3]) != 1:
            raise SchemaError(f"codec {NAME}: a chunk is one picture [1,…,H,W,3], not {list(array.shape)}")
        return chunk_spec.prototype.buffer.from_bytes(pack(array.reshape(array.shape[-3:]), self.effort))

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        array = np.empty(chunk_spec.shape, np.uint8)
        unpack(chunk_bytes.as_numpy_array(), array.reshape(array.shape[-3:]))
        return chunk_spec.prototype.nd_buffer.from_numpy_array(array)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._encode_sync, chunk_array, chunk_spec)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)
