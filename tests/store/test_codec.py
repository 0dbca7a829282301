from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numcodecs import blosc
from numpy.typing import NDArray

from store.format.codec import checked, decode_planes, encoding, with_checksum
from store.format.layout import ArrayPlan, plan_arrays
from store.reader import Store
from store.schema import Split, Stain, StoreError
from tests.support.stores import draw_tile

SIDE = 64
PLAN = ArrayPlan(
    path="picture",
    rows=1,
    dtype="uint8",
    shape=(1, 1, SIDE, SIDE, 3),
    chunk=(1, 1, SIDE, SIDE, 3),
    shard=(1, 1, SIDE, SIDE, 3),
    dimensions=("pair", "view", "y", "x", "rgb"),
)
CORE = {"blosc", "bytes", "crc32c", "sharding_indexed", "transpose", "vlen-utf8", "zstd"}


def write_chunk(folder: Path, picture: NDArray[np.uint8]) -> Path:
    """The file that zarr writes for one picture, without a shard around it."""
    array = zarr.create_array(folder, shape=PLAN.shape, chunks=PLAN.chunk, dtype=PLAN.dtype, **encoding(PLAN))
    array[0, 0] = picture
    return folder / "c/0/0/0/0/0"


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    return draw_tile(SIDE, 5)


@pytest.fixture
def chunk(tmp_path: Path, picture: NDArray[np.uint8]) -> bytes:
    return write_chunk(tmp_path / "one.zarr", picture).read_bytes()


def codecs_of(store: Store, array: str) -> list[dict[str, Any]]:
    codecs: list[dict[str, Any]] = json.loads((store.path / array / "zarr.json").read_bytes())["codecs"]
    return codecs


def names_in(codecs: list[dict[str, Any]]) -> set[str]:
    nested = [codec.get("configuration", {}) for codec in codecs]
    inner = [names_in(tree.get(key, [])) for tree in nested for key in ("codecs", "index_codecs")]
    return {codec["name"] for codec in codecs}.union(*inner)


@pytest.mark.parametrize(
    ("array", "order", "block"),
    [("train/x1/he", [0, 1, 4, 2, 3], 3 * 64 * 64), ("test/tile/ihc", [0, 3, 1, 2], 3 * 128 * 128)],
)
def test_the_metadata_name_the_measured_chain(small_store: Store, array: str, order: list[int], block: int) -> None:
    (sharding,) = codecs_of(small_store, array)
    assert sharding["name"] == "sharding_indexed"
    assert sharding["configuration"]["codecs"] == [
        {"name": "transpose", "configuration": {"order": order}},
        {"name": "bytes"},
        {
            "name": "blosc",
            "configuration": {
                "typesize": 1,
                "cname": "zstd",
                "clevel": 1,
                "shuffle": "bitshuffle",
                "blocksize": block,
            },
        },
        {"name": "crc32c"},
    ]
    assert sharding["configuration"]["index_codecs"][-1] == {"name": "crc32c"}


def test_every_array_has_core_codecs_only_and_ends_in_a_checksum(small_store: Store) -> None:
    arrays = [file.parent.relative_to(small_store.path).as_posix() for file in small_store.path.rglob("zarr.json")]
    arrays = [name for name in arrays if json.loads((small_store.path / name / "zarr.json").read_bytes()).get("codecs")]
    planned = {plan.path for split in small_store.manifest.counts for plan in plan_arrays(small_store.manifest, split)}
    assert planned < set(arrays)
    for array in arrays:
        codecs = codecs_of(small_store, array)
        assert names_in(codecs) <= CORE, array
        inner = codecs[0]["configuration"]["codecs"] if codecs[0]["name"] == "sharding_indexed" else codecs
        assert inner[-1]["name"] == "crc32c", array


def test_axes_stay_rows_columns_colours_for_any_zarr_reader(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    write_chunk(tmp_path / "one.zarr", picture)
    array = zarr.open_array(tmp_path / "one.zarr", mode="r")
    assert array.shape == (1, 1, SIDE, SIDE, 3)
    assert (np.asarray(array[0, 0]) == picture).all()
    assert (np.asarray(array[0, 0, 5:9, 7, 2]) == picture[5:9, 7, 2]).all()


def test_planes_of_a_chunk_are_the_picture_transposed(chunk: bytes, picture: NDArray[np.uint8]) -> None:
    planes = np.zeros((3, SIDE, SIDE), np.uint8)
    decode_planes(chunk, planes)
    assert (planes == picture.transpose(2, 0, 1)).all()
    assert not (planes == picture.transpose(2, 1, 0)).all()


@pytest.mark.parametrize("value", [0, 255])
def test_a_picture_of_one_colour_is_stored_and_comes_back(tmp_path: Path, value: int) -> None:
    flat = np.full((SIDE, SIDE, 3), value, np.uint8)
    planes = np.full((3, SIDE, SIDE), 7, np.uint8)
    array = tmp_path / "one.zarr"
    zarr.create_array(
        array,
        shape=PLAN.shape,
        chunks=PLAN.chunk,
        dtype="uint8",
        config={"write_empty_chunks": True},
        **encoding(PLAN),
    )[0, 0] = flat
    decode_planes((array / "c/0/0/0/0/0").read_bytes(), planes)
    assert (planes == value).all()


def test_the_short_way_equals_zarr_for_every_picture_of_a_store(small_store: Store) -> None:
    group: Any = zarr.open(small_store.path, mode="r")
    seen = 0
    for split, pairs in small_store.manifest.counts.items():
        for view in small_store.views(split):
            side = small_store.side(view)
            batch = np.zeros((pairs, 3, side, side), np.uint8)
            for stain in Stain:
                for pair in range(pairs):
                    small_store.planes(split, view, stain, pair, out=batch[pair])
                plain = group[f"{split}/{view}/{stain}"][:].reshape(pairs, side, side, 3)
                assert (batch == plain.transpose(0, 3, 1, 2)).all()
                seen += pairs
    assert seen == 12 * 4 * 2  # pairs x (x1, x2, x4, tile) x stains


def test_every_flipped_bit_is_noticed(chunk: bytes) -> None:
    generator = np.random.default_rng(0)
    planes = np.empty((3, SIDE, SIDE), np.uint8)
    for bit in generator.choice(8 * len(chunk), 300, replace=False):
        altered = bytearray(chunk)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreError, match="checksum is wrong"):
            decode_planes(bytes(altered), planes)


@pytest.mark.parametrize("keep", [0, 3, 4, 100, -1])
def test_a_cut_chunk_is_noticed(chunk: bytes, keep: int) -> None:
    with pytest.raises(StoreError, match="checksum is wrong"):
        checked(chunk[:keep])


@pytest.mark.parametrize(
    ("side", "damage", "message"),
    [
        (SIDE, lambda body: body[:16] + bytes(len(body) - 16), "not a blosc chunk"),
        (SIDE, lambda body: body[:4], r"not a picture u8 \[3, 64, 64\]"),
        (SIDE + 1, lambda body: body, r"not a picture u8 \[3, 65, 65\]"),
        (SIDE - 1, lambda body: body, r"not a picture u8 \[3, 63, 63\]"),
    ],
)
def test_a_chunk_with_a_fitting_checksum_but_without_our_picture_is_an_error(
    chunk: bytes, side: int, damage: Callable[[bytes], bytes], message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        decode_planes(with_checksum(damage(checked(chunk))), np.empty((3, side, side), np.uint8))


def test_zarr_itself_notices_a_flipped_bit(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    file = write_chunk(tmp_path / "one.zarr", picture)
    array = zarr.open_array(tmp_path / "one.zarr", mode="r")
    data = file.read_bytes()
    for place in (0, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            array[0, 0]


def test_a_picture_is_one_block_so_threads_cannot_reorder_its_bytes(chunk: bytes) -> None:
    nbytes, blocksize, _ = struct.unpack("<3I", chunk[4:16])
    assert nbytes == blocksize == 3 * SIDE * SIDE
    noisy = draw_tile(512, 6)
    threads = blosc.set_nthreads(4)
    try:
        packed = {bytes(blosc.compress(noisy, b"zstd", 1, blosc.BITSHUFFLE, noisy.nbytes)) for _ in range(10)}
    finally:
        blosc.set_nthreads(threads)
    assert len(packed) == 1


def test_boxes_keep_their_axes(small_store: Store) -> None:
    plan = next(p for p in plan_arrays(small_store.manifest, Split.TEST) if p.path == "test/x2/box")
    assert not plan.pictures
    assert set(encoding(plan)) == {"compressors"}
    assert "transpose" not in names_in(codecs_of(small_store, plan.path))


def test_planes_go_into_contiguous_memory_only(chunk: bytes) -> None:
    hwc = np.empty((SIDE, SIDE, 3), np.uint8)
    with pytest.raises(ValueError, match="contiguous"):
        decode_planes(chunk, hwc.transpose(2, 0, 1))
