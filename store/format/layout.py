"""The plan of a store: its arrays, how they are cut into shards, and which unit of work owns which shard.

Pure: touches no file and no device.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from store.schema import Manifest, Split, Stain, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The unit of work: the pairs from `first` up to `stop` of a split. It owns complete shards in every array."""

    split: Split
    index: int
    first: int
    stop: int

    @property
    def name(self) -> str:
        """The name of its journal entry."""
        return f"{self.split}-{self.index:06d}"

    @property
    def pairs(self) -> range:
        """The rows of its pairs in the pair table."""
        return range(self.first, self.stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayPlan:
    """One array: its path, its shape, the chunk that is read at once, the shard that is written at once.

    Its first `rows` hold something. In an unpaired split the stain that has fewer tiles has no chunks in the others.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    dimensions: tuple[str, ...]
    rows: int

    @property
    def pictures(self) -> bool:
        """Whether a chunk is a picture."""
        return self.dimensions[-1] == "rgb"

    @property
    def nbytes(self) -> int:
        """Bytes of the array before compression."""
        return self.rows * prod(self.shape[1:]) * (1 if self.dtype == "uint8" else 4)

    def held(self, unit: Unit) -> int:
        """How many rows of a unit hold something; they are its first ones."""
        return max(0, min(unit.stop, self.rows) - unit.first)

    def shard_name(self, unit: Unit) -> str:
        """The file of a unit's shard, relative to the store."""
        return "/".join([self.path, "c", str(unit.index), *("0" for _ in self.shape[1:])])


def plan_units(split: Split, pairs: int, unit: int) -> list[Unit]:
    """Cut `pairs` rows into units of `unit` rows; the last one may be shorter.

    >>> [len(u.pairs) for u in plan_units(Split.TRAIN, 10, 4)]
    [4, 4, 2]
    """
    return [
        Unit(split=split, index=index, first=first, stop=min(first + unit, pairs))
        for index, first in enumerate(range(0, pairs, unit))
    ]


def raw_bytes(manifest: Manifest) -> int:
    """Bytes of all arrays of a store before compression."""
    return sum(array.nbytes for split in manifest.counts for array in plan_arrays(manifest, split))


def plan_arrays(manifest: Manifest, split: Split) -> list[ArrayPlan]:
    """The arrays of a split that its units fill, in the fixed order of their digests."""
    side, tile = manifest.view_side, manifest.tile_side
    plans: list[ArrayPlan] = []
    for view in manifest.views:
        plans += [_plan_pictures(manifest, split, view.name, stain, (view.count, side, side, 3)) for stain in Stain]
        boxed = [Stain.HE] if manifest.paired else list(Stain)
        plans += [_plan_boxes(manifest, split, view, stain) for stain in boxed]
    if manifest.has_tiles(split):
        plans += [_plan_pictures(manifest, split, "tile", stain, (tile, tile, 3)) for stain in Stain]
    return plans


def box_array(manifest: Manifest, split: Split, view: str, stain: Stain) -> str:
    """The path of the boxes of a stain: the two pictures of a pair share them, unpaired ones have their own."""
    return f"{split}/{view}/{'box' if manifest.paired else f'{stain}_box'}"


def _plan_pictures(manifest: Manifest, split: Split, view: str, stain: Stain, shape: tuple[int, ...]) -> ArrayPlan:
    """The pictures of a view and stain; `shape` is that of all pictures of a row."""
    *several, height, width, rgb = shape
    return ArrayPlan(
        path=f"{split}/{view}/{stain}",
        dtype="uint8",
        shape=(manifest.counts[split], *shape),
        chunk=(1, *(1 for _ in several), height, width, rgb),
        shard=(manifest.unit, *shape),
        dimensions=("pair", *("view" for _ in several), "y", "x", "rgb"),
        rows=manifest.tiles_of(split, stain),
    )


def _plan_boxes(manifest: Manifest, split: Split, view: View, stain: Stain) -> ArrayPlan:
    """The boxes of the pictures of a view, and of a stain where the two have boxes of their own."""
    shard = (manifest.unit, view.count, 3)
    return ArrayPlan(
        path=box_array(manifest, split, view.name, stain),
        dtype="int32",
        shape=(manifest.counts[split], view.count, 3),
        chunk=shard,
        shard=shard,
        dimensions=("pair", "view", "top_left_side"),
        rows=manifest.tiles_of(split, stain),
    )
