"""An OME-Zarr 0.5, the folder of a Zarr v3 group with an array for each level, from chunks that are packed already.

Sources: Zarr core specification 3.0 with its codecs `sharding_indexed`, `gzip` and `crc32c`; NGFF 0.5 (axes,
multiscales, omero). A chunk [3,side,side] is an output tile; many are one file, so that a slide is not a million.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import google_crc32c

from store.slides.writing.labels import SOFTWARE, Label
from store.slides.writing.layer import Layer
from store.slides.writing.packing import LEVEL, WHITE

SHARD = 2048  # px, the side of a file of chunks, where that is a multiple of a chunk
NO_CHUNK = (2**64 - 1, 2**64 - 1)  # in the index of a shard
ROOT = "zarr.json"
_METHOD = {"method": "each pixel is the mean of 2 x 2 px of the level below, halves rounded up"}
_CHANNELS = (("Red", "FF0000"), ("Green", "00FF00"), ("Blue", "0000FF"))


def write_ome_zarr(folder: Path, levels: Sequence[Layer], label: Label, each: Callable[[int], None]) -> None:
    """Write levels, the largest first, all units of which are there; `each` is told of the tiles of every shard."""
    for number, level in enumerate(levels):
        array = folder / str(number)
        per_shard = max(1, SHARD // level.tiles.side)
        for top in range(0, level.tiles.rows, per_shard):
            for left in range(0, level.tiles.columns, per_shard):
                file = array / "c" / "0" / str(top // per_shard) / str(left // per_shard)
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as shard:
                    each(_write_shard(shard, level, top, left, per_shard))
        _write_document(array / ROOT, _describe_array(level, per_shard))
    _write_document(folder / ROOT, _describe_group(levels, label))


def _write_shard(shard: Any, level: Layer, top: int, left: int, per_shard: int) -> int:
    """Chunks, then the index: where each begins and how long it is, and a checksum. Returns how many there are."""
    columns = range(left, min(left + per_shard, level.tiles.columns))
    places, place = [NO_CHUNK] * per_shard**2, 0
    for row in range(top, min(top + per_shard, level.tiles.rows)):
        for column, chunk in zip(columns, level.packed(row, columns), strict=True):
            places[(row - top) * per_shard + column - left] = (place, len(chunk))
            place += shard.write(chunk)
    index = struct.pack(f"<{2 * len(places)}Q", *(number for both in places for number in both))
    shard.write(index + struct.pack("<I", google_crc32c.value(index)))
    return len(places) - places.count(NO_CHUNK)


def _describe_array(level: Layer, per_shard: int) -> dict[str, object]:
    side = level.tiles.side
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {
        "chunk_shape": [3, side, side],
        "codecs": [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": LEVEL}}],
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [3, level.grid.height, level.grid.width],
        "data_type": "uint8",
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [3, side * per_shard, side * per_shard]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": WHITE,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": ["c", "y", "x"],
        "attributes": {},
    }


def _describe_group(levels: Sequence[Layer], label: Label) -> dict[str, object]:
    unit = {} if label.mpp is None else {"unit": "micrometer"}
    axes = [{"name": "c", "type": "channel"}, *({"name": name, "type": "space"} | unit for name in "yx")]
    scales = [(label.mpp or 1.0) * 2**number for number in range(len(levels))]
    datasets = [
        {"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": [1.0, scale, scale]}]}
        for number, scale in enumerate(scales)
    ]
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    channels = [
        {"label": name, "color": colour, "active": True, "family": "linear", "window": window}
        for name, colour in _CHANNELS
    ]
    ome = {
        "version": "0.5",
        "multiscales": [{"name": label.name, "axes": axes, "datasets": datasets, "type": "mean", "metadata": _METHOD}],
        "omero": {"channels": channels, "rdefs": {"model": "color"}},
    }
    attributes = {"ome": ome, "description": label.text, "software": SOFTWARE}
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def _write_document(file: Path, tree: dict[str, object]) -> None:
    file.write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
