"""Shards that are packed without zarr have the bytes that zarr packs and reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

from store.format.codec import CHECKSUM, KEEP_ZEROS, checked, encoding
from store.format.layout import plan_arrays
from store.format.manifest import all_units
from store.format.shards import encode_unit
from store.schema import Codec
from tests.support.stores import build_small_store, small_blocks, small_manifest


def chunks_of(shard: bytes, chunks: int) -> list[bytes]:
    """The chunks of a shard in the order of their rows; empty where one is missing."""
    index = np.frombuffer(checked(shard[-(16 * chunks + CHECKSUM) :]), "<u8").reshape(chunks, 2)
    missing = np.iinfo(np.uint64).max
    return [b"" if offset == missing else shard[offset : offset + length] for offset, length in index.tolist()]


@pytest.mark.parametrize("boxes", [1, 3])
def test_every_chunk_is_the_one_that_zarr_writes(boxes: int) -> None:
    manifest = small_manifest(boxes=boxes)
    for unit in (all_units(manifest)[0], all_units(manifest)[-1]):  # a full one and one that is short
        blocks = small_blocks(manifest, unit)
        shards = encode_unit(manifest, unit, blocks)
        for plan in plan_arrays(manifest, unit.split):
            files: dict[str, zarr.core.buffer.Buffer] = {}
            array = zarr.create_array(
                MemoryStore(files),
                shape=blocks[plan.path].shape,
                dtype=plan.dtype,
                chunks=plan.chunk,
                shards=plan.shard if plan.pictures else None,
                fill_value=0,
                config=KEEP_ZEROS,
                **encoding(plan, Codec.PORTABLE),
            )
            array[...] = blocks[plan.path]
            (theirs,) = (data.to_bytes() for name, data in files.items() if name.startswith("c/"))
            ours = shards[plan.shard_name(unit)]
            if plan.pictures:
                count = int(np.prod(plan.shard[:-3]))
                assert chunks_of(ours, count) == chunks_of(theirs, count)
                assert any(chunks_of(ours, count))
            else:
                assert ours == theirs


@pytest.mark.parametrize("boxes", [1, 3])
def test_zarr_reads_every_picture_of_every_view(tmp_path: Path, boxes: int) -> None:
    store = build_small_store(tmp_path / "s.zarr", boxes=boxes)
    group = zarr.open_group(store.path, mode="r")
    for unit in all_units(store.manifest):
        for name, block in small_blocks(store.manifest, unit).items():
            array = group[name]
            assert isinstance(array, zarr.Array)
            assert np.array_equal(np.asarray(array[unit.first : unit.stop]), block)


def test_the_number_of_threads_does_not_show() -> None:
    manifest = small_manifest(boxes=2)
    unit = all_units(manifest)[1]
    blocks = small_blocks(manifest, unit)
    assert encode_unit(manifest, unit, blocks, threads=1) == encode_unit(manifest, unit, blocks, threads=7)
