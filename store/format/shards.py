"""The bytes of a store in memory: the layout without pictures, the shards of a unit, the table of digests.

Zarr writes documents into memory, pictures are packed without it; a location then writes each file. So the digest of a
file is that of the intended bytes, not of what a disk returned, and a folder and a bucket receive the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from store.format.bounds import check_bounds
from store.format.codec import MISSING, Parts, add_array, encode_numbers, encode_parts, with_checksum
from store.format.layout import ArrayPlan, Unit, plan_arrays
from store.format.manifest import ROOT, root_document
from store.format.tables import write_numbers, write_tables
from store.pairs.table import Table
from store.schema import Manifest, Split

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer


def lay_out(manifest: Manifest, table: Table) -> dict[str, bytes]:
    """Every file of an unfinished store by name, without the shards: a function of manifest and pair tables."""
    check_bounds(manifest)

    def write(group: zarr.Group) -> None:
        for split in manifest.counts:
            for plan in plan_arrays(manifest, split):
                add_array(group, plan.path, plan, plan.shape, manifest.codec)
        write_tables(group, table)

    return _in_memory(write) | {ROOT: root_document(manifest, {})}


def encode_unit(
    manifest: Manifest, unit: Unit, blocks: Mapping[str, NDArray[Any]], *, threads: int = 1
) -> dict[str, bytes]:
    """The shards of a unit by file name. `blocks` holds, by array path, the rows of the unit that hold something.

    The bytes do not depend on the number of threads.
    """
    chunks: dict[str, list[Parts]] = {}
    with ThreadPoolExecutor(threads) as pool:
        for plan in plan_arrays(manifest, unit.split):
            block, shape = blocks[plan.path], (plan.held(unit), *plan.shape[1:])
            assert block.shape == shape, (plan.path, block.shape, shape)  # a shorter block would be filled up
            assert block.dtype == plan.dtype, (plan.path, block.dtype)  # 300 would be stored as 44
            if plan.pictures:
                pictures = block.reshape(-1, *block.shape[-3:])
                chunks[plan.path] = list(pool.map(encode_parts, pictures, repeat(manifest.codec)))
            else:
                chunks[plan.path] = [(encode_numbers(block, plan),)]
    return {name: b"".join(parts) for name, parts in make_shards(manifest, unit, chunks).items()}


def make_shards(manifest: Manifest, unit: Unit, chunks: Mapping[str, Sequence[Parts]]) -> dict[str, Parts]:
    """The shards of a unit by file name. `chunks` holds, by array path, those of the unit in the order of its rows."""
    return {
        plan.shard_name(unit): _join_pictures(plan, unit, chunks[plan.path])
        if plan.pictures
        else tuple(chain.from_iterable(chunks[plan.path]))
        for plan in plan_arrays(manifest, unit.split)
    }


def encode_digests(manifest: Manifest, split: Split, digests: NDArray[np.uint8]) -> dict[str, bytes]:
    """The files of a split's table of digests, u8 [unit, array, 32]."""
    paths = [plan.path for plan in plan_arrays(manifest, split)]

    def write(group: zarr.Group) -> None:
        array = write_numbers(group, f"{split}/unit/digest", digests, ("unit", "array", "byte"))
        array.attrs["arrays"] = paths

    files = _in_memory(write)
    return {name: data for name, data in files.items() if name.startswith(f"{split}/unit/")}


def _join_pictures(plan: ArrayPlan, unit: Unit, chunks: Sequence[Parts]) -> Parts:
    """One shard of pictures in zarr's format, without zarr, which adds 1.6 ms for each picture.

    The chunks in the order of their rows, then the offset and length of each, u64, then the crc32c of these numbers
    (Zarr sharding codec 1.0). Rows that a short last unit does not have are marked as missing, and those that have no
    tile of this stain: a shard may be an index only.
    """
    assert len(chunks) == plan.held(unit) * prod(plan.shard[1:-3]), (plan.path, len(chunks))
    index = np.full((prod(plan.shard[:-3]), 2), MISSING, "<u8")
    index[: len(chunks), 1] = lengths = [sum(map(len, chunk)) for chunk in chunks]
    index[: len(chunks), 0] = np.cumsum([0, *lengths])[:-1]
    return *chain.from_iterable(chunks), with_checksum(index.tobytes())


def _in_memory(write: Callable[[zarr.Group], None]) -> dict[str, bytes]:
    """The files that `write` creates in an empty group."""
    files: dict[str, Buffer] = {}
    write(zarr.create_group(MemoryStore(files)))
    return {name: buffer.to_bytes() for name, buffer in sorted(files.items())}
