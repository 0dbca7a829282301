"""The plan of a store: its arrays, how they are cut into shards, and which unit of work owns which shard.

Pure: touches no file and no device.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from store.schema import Manifest, Split, Stain


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
    """One array: its path, its shape, the chunk that is read at once, the shard that is written at once."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    dimensions: tuple[str, ...]

    @property
    def pictures(self) -> bool:
        """Whether a chunk is a picture."""
        return self.dimensions[-1] == "rgb"

    @property
    def nbytes(self) -> int:
        """Bytes of the array before compression."""
        return prod(self.shape) * (1 if self.dtype == "uint8" else 4)

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
    pairs, unit, side = manifest.counts[split], manifest.unit, manifest.view_side
    plans: list[ArrayPlan] = []
    for view in manifest.views:
        picture = (side, side, 3)
        plans += [
            ArrayPlan(
                path=f"{split}/{view.name}/{stain}",
                dtype="uint8",
                shape=(pairs, view.count, *picture),
                chunk=(1, 1, *picture),
                shard=(unit, view.count, *picture),
                dimensions=("pair", "view", "y", "x", "rgb"),
            )
            for stain in Stain
        ]
        plans.append(
            ArrayPlan(
                path=f"{split}/{view.name}/box",
                dtype="int32",
                shape=(pairs, view.count, 3),
                chunk=(unit, view.count, 3),
                shard=(unit, view.count, 3),
                dimensions=("pair", "view", "top_left_side"),
            )
        )
    if manifest.has_tiles(split):
        tile = (manifest.tile_side, manifest.tile_side, 3)
        plans += [
            ArrayPlan(
                path=f"{split}/tile/{stain}",
                dtype="uint8",
                shape=(pairs, *tile),
                chunk=(1, *tile),
                shard=(unit, *tile),
                dimensions=("pair", "y", "x", "rgb"),
            )
            for stain in Stain
        ]
    return plans
