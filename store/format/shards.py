"""The bytes of a store in memory: the layout without pictures, the shards of a unit, the table of digests.

Zarr encodes into memory; a location then writes each file. So the digest of a file is that of the intended bytes, not
of what a disk returned, and a folder and a bucket receive the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from store.format.bounds import check_bounds
from store.format.codec import MISSING, add_array, encode_picture, with_checksum
from store.format.layout import ArrayPlan, Unit, plan_arrays
from store.format.manifest import ROOT, root_document
from store.format.tables import write_numbers, write_tables
from store.schema import Codec, Manifest, Split, Table

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer


def lay_out(manifest: Manifest, table: Table) -> dict[str, bytes]:
    """Every file of an unfinished store by name, without the shards: a function of manifest and pair tables."""
    check_bounds(manifest)

    def write(group: zarr.Group) -> None:
        for split in manifest.counts:
            for plan in plan_arrays(manifest, split):
                parent, _, name = plan.path.rpartition("/")
                add_array(group.require_group(parent), name, plan, plan.shape, manifest.codec)
        write_tables(group, table)

    return _in_memory(write) | {ROOT: root_document(manifest, {})}


def encode_unit(
    manifest: Manifest, unit: Unit, blocks: Mapping[str, NDArray[Any]], *, threads: int = 1
) -> dict[str, bytes]:
    """The shards of a unit by file name. `blocks` holds, by array path, the rows of the unit.

    The bytes do not depend on the number of threads.
    """
    shards: dict[str, bytes] = {}
    with ThreadPoolExecutor(threads) as pool:
        for plan in plan_arrays(manifest, unit.split):
            block, shape = blocks[plan.path], (len(unit.pairs), *plan.shape[1:])
            assert block.shape == shape, (plan.path, block.shape, shape)  # zarr would repeat a shorter block
            assert block.dtype == plan.dtype, (plan.path, block.dtype)  # zarr would store 300 as 44
            pack = _encode_pictures if plan.pictures else _encode_numbers
            shards[plan.shard_name(unit)] = pack(plan, block, manifest.codec, pool)
    return shards


def encode_digests(manifest: Manifest, split: Split, digests: NDArray[np.uint8]) -> dict[str, bytes]:
    """The files of a split's table of digests, u8 [unit, array, 32]."""
    paths = [plan.path for plan in plan_arrays(manifest, split)]

    def write(group: zarr.Group) -> None:
        array = write_numbers(group, f"{split}/unit/digest", digests, ("unit", "array", "byte"))
        array.attrs["arrays"] = paths

    files = _in_memory(write)
    return {name: data for name, data in files.items() if name.startswith(f"{split}/unit/")}


def _encode_pictures(plan: ArrayPlan, block: NDArray[Any], codec: Codec, pool: ThreadPoolExecutor) -> bytes:
    """One shard of pictures in zarr's format, without zarr, which adds 1.6 ms for each picture.

    The chunks in the order of their rows, then the offset and length of each, u64, then the crc32c of these numbers
    (Zarr sharding codec 1.0). Rows that a short last unit does not have are marked as missing.
    """
    chunks = list(pool.map(lambda picture: encode_picture(picture, codec), block.reshape(-1, *block.shape[-3:])))
    index = np.full((prod(plan.shard[:-3]), 2), MISSING, "<u8")
    index[: len(chunks), 1] = lengths = [len(chunk) for chunk in chunks]
    index[: len(chunks), 0] = np.cumsum([0, *lengths[:-1]])
    return b"".join([*chunks, with_checksum(index.tobytes())])


def _encode_numbers(plan: ArrayPlan, block: NDArray[Any], codec: Codec, _: ThreadPoolExecutor) -> bytes:
    """One chunk of numbers: the single chunk of an array that is as long as the unit."""

    def write(group: zarr.Group) -> None:
        array = add_array(group, "block", plan, block.shape, codec)
        array[...] = block

    (shard,) = (data for name, data in _in_memory(write).items() if name.startswith("block/c/"))
    return shard


def _in_memory(write: Callable[[zarr.Group], None]) -> dict[str, bytes]:
    """The files that `write` creates in an empty group."""
    files: dict[str, Buffer] = {}
    write(zarr.create_group(MemoryStore(files)))
    return {name: buffer.to_bytes() for name, buffer in sorted(files.items())}
