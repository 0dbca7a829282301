"""The bytes of a store before they are anywhere: the layout without pictures, a unit's shards, the table of digests.

Zarr encodes into memory; a location then writes each file whole. So the digest of a file is that of the bytes that were
meant, not of what a disk gave back, and a folder and a bucket receive the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from store.arrays import ArrayPlan, Unit, plan_arrays
from store.codec import encoding
from store.manifest import ROOT, root_document
from store.schema import Codec, Manifest, Split, Table
from store.tables import KEEP_ZEROS, write_numbers, write_tables

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer


def lay_out(manifest: Manifest, table: Table) -> dict[str, bytes]:
    """Every file of an unfinished store by its name, without the shards: a function of manifest and pair tables."""

    def write(group: zarr.Group) -> None:
        for split in manifest.counts:
            for plan in plan_arrays(manifest, split):
                parent, _, name = plan.path.rpartition("/")
                _create_array(group.require_group(parent), name, plan, plan.shape, manifest.codec)
        write_tables(group, table)

    return _in_memory(write) | {ROOT: root_document(manifest, {})}


def encode_unit(manifest: Manifest, unit: Unit, blocks: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """The shards of a unit by file name. `blocks` holds, by array path, the rows of the unit."""
    shards: dict[str, bytes] = {}
    for plan in plan_arrays(manifest, unit.split):
        block, shape = blocks[plan.path], (len(unit.pairs), *plan.shape[1:])
        assert block.shape == shape, (plan.path, block.shape, shape)  # zarr would repeat a shorter block
        assert block.dtype == plan.dtype, (plan.path, block.dtype)  # zarr would cut 300 down to 44
        shards[plan.shard_name(unit)] = _encode_block(plan, block, manifest.codec)
    return shards


def encode_digests(manifest: Manifest, split: Split, digests: NDArray[np.uint8]) -> dict[str, bytes]:
    """The files of a split's table of digests, u8 [unit, array, 32]."""
    paths = [plan.path for plan in plan_arrays(manifest, split)]

    def write(group: zarr.Group) -> None:
        array = write_numbers(group, f"{split}/unit/digest", digests, ("unit", "array", "byte"))
        array.attrs["arrays"] = paths

    files = _in_memory(write)
    return {name: data for name, data in files.items() if name.startswith(f"{split}/unit/")}


def _encode_block(plan: ArrayPlan, block: NDArray[Any], codec: Codec) -> bytes:
    """One shard: the only one of an array that is as long as the unit."""

    def write(group: zarr.Group) -> None:
        array = _create_array(group, "block", plan, block.shape, codec)
        array[...] = block

    (shard,) = (data for name, data in _in_memory(write).items() if name.startswith("block/c/"))
    return shard


def _create_array(
    group: zarr.Group, name: str, plan: ArrayPlan, shape: tuple[int, ...], codec: Codec
) -> zarr.Array[Any]:
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


def _in_memory(write: Callable[[zarr.Group], None]) -> dict[str, bytes]:
    """The files that `write` makes in an empty group."""
    files: dict[str, Buffer] = {}
    write(zarr.create_group(MemoryStore(files)))
    return {name: buffer.to_bytes() for name, buffer in sorted(files.items())}
