"""Read a sealed store: one picture, its planes, its box, the pair table. Each process opens files when it needs them.

Pictures are read without zarr: the index of a shard is read once, then a picture is one `pread`, one checksum and one
decompression into the caller's buffer. The tests compare this with plain zarr.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.format.arrays import read_rows
from store.format.codec import decode_planes, require
from store.format.layout import box_array
from store.format.manifest import read_sealed
from store.format.shard_reading import neighbours, read_chunk, read_index, side_by_side
from store.format.tables import read_pairs, read_skipped
from store.location.base import Location
from store.location.open import locate
from store.pairs.table import Pair, Skipped
from store.schema import Box, Manifest, RunError, Split, Stain, StoreError
from store.untrusted.names import picture_name

TILE = "tile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A picture of one stain: its name, as of its prediction, its slide, the row of its pair, its index in the pair."""

    name: str
    slide: str
    pair: int
    index: int


class Store:
    """A sealed store. Cheap to open and safe to pickle: it holds nothing open."""

    def __init__(self, address: Location | Path | str, manifest: Manifest) -> None:
        self.location = locate(address)
        self.manifest = manifest
        self._pairs: dict[Split, tuple[Pair, ...]] = {}
        self._boxes: dict[tuple[str, int], NDArray[np.int32]] = {}
        self._indices: dict[str, NDArray[np.uint64]] = {}

    @classmethod
    def open(cls, address: Location | Path | str) -> Store:
        """Open a sealed store: a folder, or `s3://bucket/name.zarr`.

        Raises StoreError if it is missing, no store, of another format, unfinished or altered.
        """
        location = locate(address)
        root = read_sealed(location)
        if root.computed_seal() != root.manifest.seal:
            raise StoreError(
                f"{location} was altered after it was sealed: its zarr.json does not match the seal; "
                f"restore that file from a copy; `python -m store verify {location}` lists all damage"
            )
        return cls(location, root.manifest)

    def __reduce__(self) -> tuple[type[Store], tuple[Location, Manifest]]:
        return Store, (self.location, self.manifest)

    @property
    def address(self) -> str:
        """Its address, as given on the command line: a path or s3://bucket/name.zarr."""
        return str(self.location)

    @property
    def path(self) -> Path:
        """The folder of a store on a local disk. Raises StoreError for a store in object storage."""
        if self.location.folder is not None:
            return self.location.folder
        raise StoreError(f"{self.location} is in object storage and has no path; copy it to a local disk first")

    def pairs(self, split: Split) -> tuple[Pair, ...]:
        """The pairs of a split in the order of their rows; empty if the store has no such split."""
        if split not in self._pairs:
            pairs = read_pairs(self.location, split) if split in self.manifest.counts else ()
            self._check_rows(f"{split}/pair", len(pairs), self.manifest.counts.get(split, 0))
            self._check_tiles(split, pairs)
            self._pairs[split] = pairs
        return self._pairs[split]

    def rows(self, split: Split, stain: Stain) -> range:
        """The rows of a split that have a picture of a stain: all of them, or the first ones of an unpaired store."""
        return range(self.manifest.tiles_of(split, stain))

    def skipped(self) -> tuple[Skipped, ...]:
        """The skipped pairs and the reasons."""
        skipped = read_skipped(self.location)
        self._check_rows("skipped", len(skipped), self.manifest.skipped)
        return skipped

    def views(self, split: Split) -> tuple[str, ...]:
        """The views of a split: x1, x2, x4, and `tile` where tiles are kept."""
        names = tuple(view.name for view in self.manifest.views)
        return (*names, TILE) if self.manifest.has_tiles(split) else names

    def side(self, view: str) -> int:
        """The side of the pictures of a view, px."""
        return self.manifest.tile_side if view == TILE else self.manifest.view_side

    def count(self, view: str) -> int:
        """The number of pictures of a view per pair and stain."""
        return 1 if view == TILE else self.manifest.view(view).count

    def picture(self, split: Split, view: str, stain: Stain, pair: int, index: int = 0) -> NDArray[np.uint8]:
        """One picture, u8 [H,W,3] RGB."""
        return np.ascontiguousarray(self.planes(split, view, stain, pair, index).transpose(1, 2, 0))

    def planes(
        self, split: Split, view: str, stain: Stain, pair: int, index: int = 0, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """One picture as planes, u8 [3,H,W], written into `out` (contiguous) if given.

        Raises StoreError if its shard is missing or its bytes were altered, or if the row of an unpaired store has no
        such picture: a picture that is not there is never returned as black.
        """
        planes = np.empty((3, self.side(view), self.side(view)), np.uint8) if out is None else out
        self.many_planes(split, view, stain, [(pair, index)], [planes])
        return planes

    def many_planes(
        self,
        split: Split,
        view: str,
        stain: Stain,
        places: Sequence[tuple[int, int]],
        outs: Sequence[NDArray[np.uint8]],
    ) -> None:
        """The pictures `places`, each (pair, index), into `outs`, each u8 [3,H,W]; neighbours are read in one request.

        Raises StoreError as `planes` does.
        """
        require(self.manifest.codec)
        side, array = self.side(view), f"{split}/{view}/{stain}"
        by_unit: dict[int, list[tuple[int, int]]] = {}
        for n, (pair, index) in enumerate(places):
            unit, slot = divmod(self._row(split, view, stain, pair, index), self.manifest.unit * self.count(view))
            by_unit.setdefault(unit, []).append((slot, n))
            assert outs[n].shape == (3, side, side), outs[n].shape
            assert outs[n].dtype == np.uint8, outs[n].dtype
        for unit, wanted in by_unit.items():
            shard = f"{array}/c/{unit}/{'/'.join('0' * (3 if view == TILE else 4))}"
            for group in neighbours(sorted(wanted)):
                (pair, index), count = places[group[0][1]], len(group)
                what = f"picture {index} of pair {pair}" if count == 1 else f"one of {count} pictures from pair {pair}"
                try:
                    self._read_group(shard, self.manifest.unit * self.count(view), group, outs)
                except (StoreError, OSError) as error:
                    raise self._unreadable(f"{what} in {array}", error) from error

    def _read_group(
        self, shard: str, chunks: int, group: Sequence[tuple[int, int]], outs: Sequence[NDArray[np.uint8]]
    ) -> None:
        """Consecutive pictures of a shard, each (slot, position in `outs`), with one read if they are side by side."""
        if shard not in self._indices:
            self._indices[shard] = read_index(self.location, shard, chunks, outs[0].nbytes)
        index = self._indices[shard]
        for run in side_by_side([(int(index[slot, 0]), int(index[slot, 1]), n) for slot, n in group]):
            first, end = run[0][0], sum(run[-1][:2])
            data = read_chunk(self.location, shard, first, end - first)
            for offset, length, n in run:
                decode_planes(data[offset - first : offset - first + length], outs[n], self.manifest.codec)

    def box(self, split: Split, view: str, pair: int, index: int = 0, stain: Stain = Stain.HE) -> Box:
        """The box on the tile that a picture shows, in tile pixels; the two stains of a pair share it."""
        self._row(split, view, stain, pair, index)
        if view == TILE:
            return Box(top=0, left=0, side=self.manifest.tile_side)
        unit, row = divmod(pair, self.manifest.unit)
        array = box_array(self.manifest, split, view, stain)
        if (array, unit) not in self._boxes:
            rows = min(self.manifest.unit, self.manifest.counts[split] - unit * self.manifest.unit)
            self._boxes[array, unit] = self._read_boxes(array, unit, (rows, self.count(view), 3))
        top, left, side = (int(value) for value in self._boxes[array, unit][row, index])
        return Box(top=top, left=left, side=side)

    def _read_boxes(self, array: str, unit: int, shape: tuple[int, ...]) -> NDArray[np.int32]:
        """The boxes of a unit, i32 [pair, view, 3]."""
        boxes = read_rows(self.location, array, unit)
        if boxes.shape != shape:
            raise self._unreadable(f"table {array}", StoreError(f"it has the shape {boxes.shape} instead of {shape}"))
        return boxes

    def _check_rows(self, table: str, rows: int, due: int) -> None:
        if rows != due:
            raise self._unreadable(f"table {table}", StoreError(f"it has {rows} rows instead of {due}"))

    def _check_tiles(self, split: Split, pairs: Sequence[Pair]) -> None:
        """Raise StoreError unless the rows that name a tile of a stain are those that have its pictures."""
        for stain in Stain:
            named = [row for row, pair in enumerate(pairs) if pair.tile_of(stain)]
            if named != list(rows := self.rows(split, stain)):
                what = f"{len(named)} rows name {stain.spoken} tiles where the first {len(rows)} have some"
                raise self._unreadable(f"table {split}/pair", StoreError(what))

    def _unreadable(self, what: str, error: Exception) -> StoreError:
        return StoreError(
            f"{what} of {self.location} cannot be read ({error}); "
            f"`python -m store verify {self.location}` lists all damage"
        )

    def _row(self, split: Split, view: str, stain: Stain, pair: int, index: int) -> int:
        """The position of a picture in its array, counted over pairs and the pictures of each pair."""
        if view not in self.views(split):
            raise StoreError(f"no view {view!r} in {split} of {self.location}; it has {', '.join(self.views(split))}")
        pairs, count = self.manifest.counts.get(split, 0), self.count(view)
        if not (0 <= pair < pairs and 0 <= index < count):
            raise StoreError(
                f"no picture {index} of pair {pair} in {split}/{view} of {self.location}: it has {pairs} pairs with "
                f"{count} each"
            )
        if pair not in self.rows(split, stain):
            raise StoreError(
                f"row {pair} of {split} of {self.location} has no {stain.spoken} picture: the store is unpaired, and "
                f"only its first {len(self.rows(split, stain))} rows have one"
            )
        return pair * count + index


def plan_targets(store: Store, split: Split, view: str, stain: Stain = Stain.HE) -> list[Target]:
    """The pictures of a split, view and stain in the order of the store. Raises RunError if there are none."""
    if view not in store.views(split):
        raise RunError(f"{store.address} has no view {view!r} of {split}; it has {', '.join(store.views(split))}")
    pairs, count = store.pairs(split), store.count(view)
    if not pairs:
        present = ", ".join(f"{name} ({number})" for name, number in store.manifest.counts.items())
        raise RunError(f"{store.address} has no {split} pairs; it has {present}: choose one with --split")
    rows = store.rows(split, stain)
    if not rows:
        raise RunError(
            f"{store.address} is unpaired and has no {stain.spoken} picture in {split}; choose another --split"
        )
    return [
        Target(
            name=picture_name(pairs[row].id_of(stain), index, count),
            slide=pairs[row].slide_of(stain),
            pair=row,
            index=index,
        )
        for row in rows
        for index in range(count)
    ]
