"""OME-Zarr 0.4 and 0.5: a folder with the same picture at one or more scales (OME-NGFF specification)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from store.images import PictureU8
from store.pictures.claims import micrometres, plausible
from store.pictures.ordinary import check_ordinary
from store.schema import PictureError
from store.slides.reading.segments import Cache, Segmented
from store.slides.reading.slide import Slide, is_smaller
from store.slides.reading.zarr_array import ZarrArray, read_array, read_metadata
from store.slides.reading.zarr_chunks import DamagedChunkError, read_chunk
from store.untrusted.documents import shorten
from store.untrusted.names import name_fault

LEVELS = 64
METADATA_FILES = {"zarr.json", ".zarray", ".zattrs"}
NO_PICTURES = ("plate", "well", "labels", "image-label")
EXPORT = "export one picture as 8-bit RGB, e.g. with bioformats2raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunks:
    """The chunks of level `number` of a picture whose axes are named by a letter each."""

    path: Path
    array: ZarrArray
    axes: str
    number: int

    def side(self, axis: str, sides: tuple[int, ...]) -> int:
        """The length along an axis in a shape; 1 where there is none."""
        return sides[self.axes.index(axis)] if axis in self.axes else 1

    def load(self, row: int, column: int) -> PictureU8:
        """The chunks of all bands at a place, u8 [h,w,3] RGB. Raises PictureError."""
        bands = self.side("c", self.array.shape)
        places = range(-(-bands // self.side("c", self.array.chunks)))
        try:
            parts = [read_chunk(self.array, self._place(c=band, y=row, x=column)) for band in places]
        except DamagedChunkError as error:
            top, left = (row * self.side("y", self.array.chunks), column * self.side("x", self.array.chunks))
            level = f" of level {self.number}" if self.number else ""
            raise PictureError(
                f"{self.path}: the part at {top:,} px from the top and {left:,} px from the left{level} is damaged "
                f"({error}); copy or export the folder again"
            ) from error
        order = [self.axes.index(axis) for axis in "yx"] + ([self.axes.index("c")] if "c" in self.axes else [])
        first = [axis for axis in range(len(self.axes)) if axis not in order]  # of length 1, in use
        planes = [part.transpose(first + order)[(0,) * len(first)] for part in parts]  # [h,w] or [h,w,bands]
        pixels = np.concatenate([plane.reshape(*plane.shape[:2], -1) for plane in planes], axis=2)[..., :bands]
        return np.ascontiguousarray(pixels) if bands == 3 else np.repeat(pixels, 3, axis=2)

    def _place(self, **places: int) -> tuple[int, ...]:
        return tuple(places.get(axis, 0) for axis in self.axes)


def open_ome_zarr(path: Path, memory: int) -> Slide:
    """Open a folder of OME-Zarr; chunks of at most `memory` bytes are kept. Raises PictureError."""
    attributes = _attributes(path)
    for kind in NO_PICTURES:
        if kind in attributes:
            raise PictureError(f"{path}: is a `{kind}` of OME-Zarr, not a picture; give the folder of a picture in it")
    if "multiscales" not in attributes and "bioformats2raw.layout" in attributes:
        return open_ome_zarr(_single_series(path), memory)
    try:
        if len(pictures := attributes["multiscales"]) != 1:
            raise PictureError(f"{path}: lists {len(pictures)} pictures; {EXPORT}")
        return _open(path, pictures[0], memory)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = shorten(f"no {error}" if isinstance(error, KeyError) else str(error), 200)
        raise PictureError(f"{path}: what it says of itself as OME-Zarr is not read ({what}); {EXPORT}") from error


def _attributes(path: Path) -> Mapping[str, Any]:
    """What a group says of itself as OME-Zarr. Raises PictureError if it is none."""
    files = {name for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray") if (path / name).is_file()}
    if not files:
        check_ordinary(path)  # which says that it is a folder
    tree = read_metadata(path / "zarr.json") if "zarr.json" in files else {}
    if ".zarray" in files or tree.get("node_type") == "array":
        raise PictureError(f"{path}: is one array of a Zarr; give the folder around it, if that is an OME-Zarr")
    attributes = tree.get("attributes", {}) if tree else read_metadata(path / ".zattrs") if ".zattrs" in files else {}
    if isinstance(attributes, dict) and "manifest" in attributes:
        raise PictureError(
            f"{path}: is a magstain store, not a picture: `python -m train predict` translates the pairs in it"
        )
    found = attributes.get("ome", {}) if tree and isinstance(attributes, dict) else attributes
    return found if isinstance(found, dict) else {}


def _single_series(path: Path) -> Path:
    """The one picture in a folder of bioformats2raw. Raises PictureError where there is none, or more than one."""
    series = sorted(child for child in path.iterdir() if child.name.isdecimal() and child.is_dir())
    if len(series) != 1:
        raise PictureError(f"{path}: holds {len(series)} pictures; give the folder of one, such as {path / '0'}")
    return series[0]


def _open(path: Path, picture: Mapping[str, Any], memory: int) -> Slide:
    axes = [str(axis["name"]) for axis in picture["axes"]]
    if len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes) <= {"t", "c", "z", "y", "x"}:
        raise ValueError(f"its axes are {', '.join(axes)}")
    if not 0 < len(picture["datasets"]) <= LEVELS:
        raise ValueError(f"it lists {len(picture['datasets']):,} levels")
    chunks = []
    for number, dataset in enumerate(picture["datasets"]):
        if fault := name_fault(str(dataset["path"])):
            raise ValueError(f"the name of level {number} {fault}")
        array = read_array(path / dataset["path"])
        chunks.append(_Chunks(path=path, array=array, axes="".join(axes), number=number))
        _check_level(chunks[0], chunks[-1], memory)
    mpp, mpp_from = _scale(axes, picture)
    first = chunks[0]
    rows, columns = (first.side(axis, first.array.chunks) for axis in "yx")
    cache = Cache.of(memory, first.side("x", first.array.shape), rows, columns)
    levels = [
        Segmented(
            number=one.number,
            height=one.side("y", one.array.shape),
            width=one.side("x", one.array.shape),
            rows=one.side("y", one.array.chunks),
            columns=one.side("x", one.array.chunks),
            load=one.load,
            cache=cache,
        )
        for one in chunks
    ]
    return Slide(path=path, levels=levels, mpp=mpp, mpp_from=mpp_from, notes=_notes(chunks[0]), shut=lambda: None)


def _check_level(base: _Chunks, level: _Chunks, memory: int) -> None:
    """Raise ValueError, or PictureError, for a level that is no RGB or grey picture, or not that of `base`."""
    shape = level.array.shape
    if len(shape) != len(level.axes):
        raise ValueError(f"level {level.number} has the shape {list(shape)}, its axes are {', '.join(level.axes)}")
    lengths = {axis: level.side(axis, shape) for axis in "tczyx"}
    if (lengths["t"], lengths["z"]) != (1, 1) or lengths["c"] not in (1, 3):
        raise PictureError(
            f"{level.path}: has {lengths['c']} channels, {lengths['z']} depths and {lengths['t']} times; a picture has "
            f"red, green and blue, or grey, and one of the others: {EXPORT}"
        )
    whole = (base.side("y", base.array.shape), base.side("x", base.array.shape))
    if level.number and not is_smaller(whole, (lengths["y"], lengths["x"])):
        raise ValueError(f"level {level.number} of {lengths['x']:,} x {lengths['y']:,} px is not level 0 in small")
    if (needed := 6 * level.array.chunk_bytes) > memory:
        raise PictureError(
            f"{level.path}: has chunks of {list(level.array.chunks)}, which take {needed / 2**30:,.1f} GiB to decode, "
            f"more than the {memory / 2**30:,.1f} GiB allowed: allow more with --set memory=GIB, or {EXPORT}"
        )


def _scale(axes: list[str], picture: Mapping[str, Any]) -> tuple[float | None, str]:
    """Micrometres per pixel, None where the folder does not say, and where it is from."""
    sides = []
    for axis in "xy":
        place = axes.index(axis)
        um = micrometres(str(picture["axes"][place].get("unit", "")))
        for owner in (picture["datasets"][0], picture):
            for step in owner.get("coordinateTransformations", ()):
                um *= float(step["scale"][place]) if step["type"] == "scale" else 1.0
        sides.append(um)
    mpp, where = plausible(sides[0], sides[1], "OME-Zarr")
    return mpp or None, where


def _notes(level: _Chunks) -> tuple[str, ...]:
    """What reading does to the picture, and how many of its files are not there."""
    array = level.array
    files = math.prod(-(-whole // part) for whole, part in zip(array.shape, array.file_shape, strict=True))
    there = sum(name not in METADATA_FILES for _, _, names in os.walk(array.folder) for name in names)
    if not there:
        raise PictureError(f"{level.path}: has none of its {files:,} chunks; copy or export the folder again")
    notes = ["grey to RGB"] if level.side("c", array.shape) == 1 else []
    if there < files:
        notes.append(f"{files - there:,} of {files:,} chunks are not on disk, and have the value {array.fill}")
    return tuple(notes)
