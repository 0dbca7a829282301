"""The chains of codecs that are compared: what Zarr's core offers, JPEG-XL, and one that is out, for reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numcodecs
from zarr.codecs import BloscCodec, ZstdCodec

from store.format.jpegxl import JpegXl, unpack
from tests.bench.pictures import SIDE

WHOLE = 3 * SIDE * SIDE  # bytes: a picture is one blosc block


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The order of a picture's axes on disk, zarr's codec that packs it, and what unpacks it into a buffer."""

    order: str
    name: str
    decode: Callable[[bytes, Any], object]
    serializer: Any = "auto"
    compressors: tuple[Any, ...] = ()
    delta: bool = False


def blosc(order: str, library: Any, level: int, shuffle: Any, *, typesize: int = 1, block: int = WHOLE) -> Chain:
    """Blosc with a picture as one block; block 0 is blosc's own choice, 32 to 256 KiB."""
    codec = BloscCodec(cname=library, clevel=level, shuffle=shuffle, typesize=typesize, blocksize=block)
    name = f"blosc {library} {level} {shuffle}{f' of {typesize} bytes' if typesize > 1 else ''}"
    name = f"{name}, {'one block' if block else 'blocks'}"
    return Chain(order=order, name=name, compressors=(codec,), decode=numcodecs.Blosc().decode)


def zstd(order: str, level: int, *, delta: bool = False) -> Chain:
    """Plain zstd, with numcodecs' delta filter before it on request."""
    name = f"{'delta, ' if delta else ''}zstd {level}"
    packer = ZstdCodec(level=level)
    return Chain(order=order, name=name, compressors=(packer,), decode=numcodecs.Zstd().decode, delta=delta)


def jpegxl(effort: int) -> Chain:
    """A picture as lossless JPEG-XL."""
    return Chain(order="HWC", name=f"JPEG-XL, effort {effort}", serializer=JpegXl(effort=effort), decode=unpack)


CHAINS = (
    *(zstd("HWC", level) for level in (1, 3, 5)),
    blosc("HWC", "zstd", 5, "shuffle", typesize=3, block=0),
    blosc("HWC", "zstd", 5, "bitshuffle", typesize=3, block=0),
    blosc("HWC", "zstd", 1, "bitshuffle", typesize=3),
    *(zstd("CHW", level) for level in (1, 3, 9)),
    *(blosc("CHW", "zstd", level, "noshuffle", block=0) for level in (1, 3, 4, 5, 7, 9)),
    *(blosc("CHW", "zstd", level, "bitshuffle", block=0) for level in (1, 3, 5, 7)),
    *(blosc("CHW", "zstd", level, "bitshuffle") for level in (1, 3, 5, 7, 9)),
    blosc("CHW", "zstd", 1, "bitshuffle", typesize=8),
    blosc("CHW", "lz4", 9, "bitshuffle"),
    blosc("CHW", "lz4hc", 5, "bitshuffle"),
    *(blosc(order, "zstd", 1, "bitshuffle") for order in ("HCW", "CWH")),
    zstd("CHW", 3, delta=True),
    *(jpegxl(effort) for effort in (1, 2, 3, 4)),
)
