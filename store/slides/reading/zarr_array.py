"""What the metadata of a Zarr array of 8-bit numbers say, format 2 and 3, checked before a chunk is read.

Zarr's own library is not used: it unpickles what filters of format 2 ask for, and its decoder of blosc reads beyond the
end of a chunk that was cut. Specifications: Zarr 2; Zarr 3 with its core codecs and `sharding_indexed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from store.schema import PictureError
from store.untrusted.documents import DocumentError, parse_object, read_document, shorten

METADATA = 4 << 20  # bytes
LARGEST = 1 << 20  # of a side
CHUNKS = 1 << 22
DIMENSIONS = 8


class Packing(StrEnum):
    """One step of how the bytes of a chunk are packed, or of the index of a shard."""

    BLOSC = "blosc"
    CRC32C = "crc32c"
    GZIP = "gzip"
    ZLIB = "zlib"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """Files of several chunks: their shape, how the index is packed, and whether it comes first."""

    shape: tuple[int, ...]
    index: tuple[Packing, ...]
    index_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrArray:
    """An array in a folder: `chunks` is the shape of what is decoded at once, in `order` of axes, packed in `steps`.

    A chunk without a file has the value `fill` everywhere. The name of a file is `prefix` and the numbers of the chunk,
    or of the shard, with `separator` between them.
    """

    folder: Path
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    order: tuple[int, ...]
    steps: tuple[Packing, ...]
    fill: int
    prefix: str
    separator: str
    shards: Shards | None = None

    @property
    def chunk_bytes(self) -> int:
        """Of a decoded chunk."""
        return math.prod(self.chunks)

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Of what one file holds: a chunk, or a shard of them."""
        return self.shards.shape if self.shards else self.chunks

    def file(self, place: tuple[int, ...]) -> Path:
        """The file at a place in the grid of files."""
        return self.folder / (self.prefix + self.separator.join(map(str, place)))


def read_metadata(file: Path) -> dict[str, Any]:
    """The JSON in a file of Zarr. Raises PictureError."""
    try:
        return parse_object(read_document(file, METADATA))
    except (OSError, DocumentError) as error:
        raise PictureError(f"{file}: cannot be read ({error}); copy or export the folder again") from error


def read_array(folder: Path) -> ZarrArray:
    """The array in a folder. Raises PictureError where it is damaged, or of a kind that is not read."""
    if (file := folder / "zarr.json").is_file():
        parse = _format_3
    elif (file := folder / ".zarray").is_file():
        parse = _format_2
    else:
        raise PictureError(f"{folder}: a level of the picture is missing; copy or export the folder again")
    tree = read_metadata(file)
    try:
        array = parse(folder, tree)
        _check_shapes(array)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = shorten(f"has no {error}" if isinstance(error, KeyError) else str(error), 200)
        raise PictureError(f"{file}: is not read as a picture: {what}; export it as 8-bit RGB again") from error
    return array


def _format_2(folder: Path, tree: Mapping[str, Any]) -> ZarrArray:
    if tree["dtype"] not in ("|u1", "u1"):
        raise ValueError(f"its numbers are {tree['dtype']!r}, not 8-bit ('|u1')")
    if tree["filters"]:
        raise ValueError(f"it has filters ({tree['filters']})")
    shape = _sides(tree["shape"])
    compressor = tree["compressor"]
    forward = range(len(shape))
    return ZarrArray(
        folder=folder,
        shape=shape,
        chunks=_sides(tree["chunks"]),
        order=tuple(forward if {"C": True, "F": False}[tree["order"]] else reversed(forward)),
        steps=(Packing(compressor["id"]),) if compressor else (),
        fill=_fill(tree["fill_value"]),
        prefix="",
        separator=_separator(tree.get("dimension_separator", ".")),
    )


def _format_3(folder: Path, tree: Mapping[str, Any]) -> ZarrArray:
    if tree["node_type"] != "array" or tree["data_type"] != "uint8":
        raise ValueError(f"it is an {tree['node_type']} of {tree.get('data_type')}, not an array of uint8")
    if tree.get("storage_transformers") or tree["chunk_grid"]["name"] != "regular":
        raise ValueError("it has no regular grid of chunks")
    shape, chunks = _sides(tree["shape"]), _sides(tree["chunk_grid"]["configuration"]["chunk_shape"])
    codecs, shards = tree["codecs"], None
    if not codecs:
        raise ValueError("it has no codecs")
    if codecs[0]["name"] == "sharding_indexed":
        options = codecs[0]["configuration"]
        _, index = _steps(options["index_codecs"], 2)
        if len(codecs) > 1 or not set(index) <= {Packing.CRC32C}:
            raise ValueError("its shards are packed again")
        first = {"start": True, "end": False}[options.get("index_location", "end")]
        shards = Shards(shape=chunks, index=index, index_first=first)
        codecs, chunks = options["codecs"], _sides(options["chunk_shape"])
    order, steps = _steps(codecs, len(shape))
    encoding = tree["chunk_key_encoding"]
    plain = {"default": False, "v2": True}[encoding["name"]]
    return ZarrArray(
        folder=folder,
        shape=shape,
        chunks=chunks,
        order=order,
        steps=steps,
        fill=_fill(tree["fill_value"]),
        prefix="" if plain else "c" + _separator(encoding.get("configuration", {}).get("separator", "/")),
        separator=_separator(encoding.get("configuration", {}).get("separator", "." if plain else "/")),
        shards=shards,
    )


def _steps(codecs: list[Mapping[str, Any]], dimensions: int) -> tuple[tuple[int, ...], tuple[Packing, ...]]:
    """The order of axes that codecs write, and how they pack the bytes."""
    order = tuple(range(dimensions))
    names = [codec["name"] for codec in codecs]
    if names[0] == "transpose":
        order = _numbers(codecs[0]["configuration"]["order"])
        names = names[1:]
    if names[0] != "bytes" or sorted(order) != list(range(dimensions)):
        raise ValueError(f"its codecs are {', '.join(map(str, names))}")
    return order, tuple(Packing(name) for name in names[1:])


def _check_shapes(array: ZarrArray) -> None:
    shapes = [array.shape, array.chunks, array.file_shape]
    if {len(shape) for shape in shapes} != {len(array.shape)} or len(array.shape) > DIMENSIONS:
        raise ValueError(f"its shapes {shapes} do not belong together")
    if math.prod(-(-whole // part) for whole, part in zip(array.shape, array.chunks, strict=True)) > CHUNKS:
        raise ValueError(f"it has more than {CHUNKS:,} chunks")
    if any(whole % part for whole, part in zip(array.file_shape, array.chunks, strict=True)):
        raise ValueError(f"its shards {list(array.file_shape)} hold no whole chunks {list(array.chunks)}")


def _sides(values: object) -> tuple[int, ...]:
    sides = _numbers(values)
    if not all(0 < side <= LARGEST for side in sides):
        raise ValueError(f"a shape {list(sides)} has a side outside 1 to {LARGEST:,}")
    return sides


def _numbers(values: object) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ValueError(f"{shorten(str(values))} is no list of whole numbers")
    return tuple(values)


def _fill(value: object) -> int:
    if value is None:  # undefined in format 2, where zarr makes zeros of it
        return 0
    if type(value) is not int or not 0 <= value <= 255:
        raise ValueError(f"its fill value is {shorten(str(value))}")
    return value


def _separator(value: object) -> str:
    if value not in (".", "/"):
        raise ValueError(f"its chunks have names with {shorten(str(value))!r}")
    return str(value)
