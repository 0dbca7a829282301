"""Read a sealed store: one picture, its planes, its box, the pair table. Files are opened lazily, by each process.

Pictures are read past zarr: a shard's index is read once, then a picture is one `pread`, one checksum and one
decompression into the caller's buffer. The test suite holds this against plain zarr.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from store.codec import CHECKSUM, checked, decode_planes
from store.manifest import read_sealed
from store.schema import Box, Manifest, Pair, Skipped, Split, Stain, StoreError
from store.tables import read_array, read_pairs, read_skipped

TILE = "tile"
MISSING = np.iinfo(np.uint64).max  # how a shard's index marks a chunk that was never written


class Store:
    """A sealed store. Cheap to open, safe to pickle: nothing is held open."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._pairs: dict[Split, tuple[Pair, ...]] = {}
        self._boxes: dict[str, NDArray[np.int32]] = {}
        self._shards: dict[Path, NDArray[np.uint64]] = {}

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open a sealed store. Raises StoreError if it is missing, foreign, of a newer format, unfinished or edited."""
        root = read_sealed(path)
        if root.seal() != root.manifest.seal:
            raise StoreError(
                f"{path} was altered after it was sealed: the seal does not fit its zarr.json; "
                f"bring that file back from a copy; `python -m store verify {path}` lists all damage"
            )
        return cls(path, root.manifest)

    def __reduce__(self) -> tuple[type[Store], tuple[Path, Manifest]]:
        return Store, (self.path, self.manifest)

    @cached_property
    def group(self) -> zarr.Group:
        """The store as a zarr group, opened for reading."""
        return zarr.open_group(self.path, mode="r")

    def pairs(self, split: Split) -> tuple[Pair, ...]:
        """The pair table of a split in the order of its rows; empty if the store has no such split."""
        if split not in self._pairs:
            self._pairs[split] = read_pairs(self.group, split) if split in self.manifest.counts else ()
        return self._pairs[split]

    def skipped(self) -> tuple[Skipped, ...]:
        """The pairs that were left out, and why."""
        return read_skipped(self.group)

    def views(self, split: Split) -> tuple[str, ...]:
        """The names of what can be read of a split: x1, x2, x4, and `tile` where tiles are kept."""
        names = tuple(view.name for view in self.manifest.views)
        return (*names, TILE) if self.manifest.has_tiles(split) else names

    def side(self, view: str) -> int:
        """The side of a view's pictures, px."""
        return self.manifest.tile_side if view == TILE else self.manifest.view_side

    def count(self, view: str) -> int:
        """How many pictures of a pair a view has."""
        return 1 if view == TILE else self.manifest.view(view).count

    def picture(self, split: Split, view: str, stain: Stain, pair: int, index: int = 0) -> NDArray[np.uint8]:
        """One picture, u8 [H,W,3] RGB."""
        return np.ascontiguousarray(self.planes(split, view, stain, pair, index).transpose(1, 2, 0))

    def planes(
        self, split: Split, view: str, stain: Stain, pair: int, index: int = 0, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """One picture as planes, u8 [3,H,W], written into `out` (contiguous) if given.

        Raises StoreError if its shard is missing or its bytes were altered: nobody is handed black for a lost picture.
        """
        side, row = self.side(view), self._row(split, view, pair, index)
        planes = np.empty((3, side, side), np.uint8) if out is None else out
        assert planes.shape == (3, side, side), planes.shape
        assert planes.dtype == np.uint8, planes.dtype
        array, chunks = f"{split}/{view}/{stain}", self.manifest.unit * self.count(view)
        unit, slot = divmod(row, chunks)
        shard = self.path / array / "c" / str(unit) / "/".join("0" * (3 if view == TILE else 4))
        try:
            if shard not in self._shards:
                self._shards[shard] = _read_index(shard, chunks)
            offset, length = self._shards[shard][slot]
            decode_planes(_read_at(shard, int(offset), int(length)), planes)
        except (StoreError, OSError) as error:
            raise StoreError(
                f"picture {index} of pair {pair} in {array} of {self.path} cannot be read ({error}); "
                f"`python -m store verify {self.path}` lists all damage"
            ) from error
        return planes

    def box(self, split: Split, view: str, pair: int, index: int = 0) -> Box:
        """Where on its tile a picture was cut, in tile pixels."""
        self._row(split, view, pair, index)
        if view == TILE:
            return Box(top=0, left=0, side=self.manifest.tile_side)
        name = f"{split}/{view}/box"
        if name not in self._boxes:
            self._boxes[name] = read_array(self.group, name)
        top, left, side = (int(value) for value in self._boxes[name][pair, index])
        return Box(top=top, left=left, side=side)

    def _row(self, split: Split, view: str, pair: int, index: int) -> int:
        """The picture's place in its array, counted over pairs and pictures of a pair."""
        if view not in self.views(split):
            raise StoreError(f"no view {view!r} in {split} of {self.path}; it has {', '.join(self.views(split))}")
        pairs, count = self.manifest.counts.get(split, 0), self.count(view)
        if not (0 <= pair < pairs and 0 <= index < count):
            raise StoreError(
                f"no picture {index} of pair {pair} in {split}/{view} of {self.path}: it has {pairs} pairs of {count}"
            )
        return pair * count + index


def _read_index(shard: Path, chunks: int) -> NDArray[np.uint64]:
    """Offset and length of each chunk of a shard, u64 [chunk, 2]; it stands at the shard's end."""
    length = chunks * 16 + CHECKSUM
    return np.frombuffer(checked(_read_at(shard, shard.stat().st_size - length, length)), "<u8").reshape(chunks, 2)


def _read_at(file: Path, offset: int, length: int) -> bytes:
    if not 0 <= offset < MISSING:
        raise StoreError("the shard is too short, or the picture was never written")
    handle = os.open(file, os.O_RDONLY)
    try:
        data = os.pread(handle, length, offset)
    finally:
        os.close(handle)
    if len(data) < length:
        raise StoreError("the shard is too short")
    return data
