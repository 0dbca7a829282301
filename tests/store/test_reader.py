"""The reader: the same pixels as plain zarr, and an error instead of zeros for a lost picture."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from store.format.manifest import Root, journal_of, read_root, root_document
from store.reader import TILE, Store
from store.schema import Box, Split, Stain, StoreError
from store.writing.writer import open_writer
from tests.support.stores import IDS, build_small_store, small_manifest, small_table

X4 = "train/x4/ihc/c/1/0/0/0/0"  # the shard of pairs 3 to 5


@pytest.mark.parametrize(("boxes", "unit"), [(1, 3), (2, 3), (1, 1), (2, 16)])
def test_every_picture_and_box_is_that_of_plain_zarr(tmp_path: Path, boxes: int, unit: int) -> None:
    store = build_small_store(tmp_path / "s.zarr", boxes=boxes, unit=unit)
    group = zarr.open_group(store.path, mode="r")
    compared = 0
    for split in (Split.TRAIN, Split.TEST):
        for view in store.views(split):
            for stain in Stain:
                plain = np.asarray(group[f"{split}/{view}/{stain}"][...])  # type: ignore[index] # an array
                plain = plain.reshape(len(store.pairs(split)), store.count(view), *plain.shape[-3:])
                for pair, index in np.ndindex(*plain.shape[:2]):
                    assert np.array_equal(store.picture(split, view, stain, pair, index), plain[pair, index])
                    compared += 1
    assert compared == 12 * 2 * (1 + 1 + 2 * boxes)
    boxes_of = np.asarray(group["train/x2/box"][...])  # type: ignore[index] # an array
    for pair, index in np.ndindex(8, boxes):
        box = store.box(Split.TRAIN, "x2", pair, index)
        assert [box.top, box.left, box.side] == boxes_of[pair, index].tolist()


def test_planes_go_into_the_buffer_that_is_given(small_store: Store) -> None:
    batch = np.zeros((2, 3, 64, 64), np.uint8)
    given = small_store.planes(Split.TEST, "x4", Stain.IHC, 2, out=batch[1])
    assert np.shares_memory(given, batch)
    assert np.array_equal(batch[1].transpose(1, 2, 0), small_store.picture(Split.TEST, "x4", Stain.IHC, 2))
    assert batch[0].max() == 0
    for wrong in (np.zeros((3, 32, 32), np.uint8), np.zeros((64, 64, 3), np.uint8)):
        with pytest.raises(AssertionError):
            small_store.planes(Split.TEST, "x4", Stain.IHC, 2, out=wrong)


def test_what_a_store_says_of_itself(small_store: Store) -> None:
    assert [pair.id for pair in small_store.pairs(Split.TRAIN)] == IDS[Split.TRAIN]
    assert small_store.pairs(Split.TRAIN) == small_table().pairs[Split.TRAIN]
    assert small_store.pairs(Split.TRAIN) is small_store.pairs(Split.TRAIN)
    assert small_store.pairs(Split.VAL) == ()
    assert small_store.skipped() == ()
    assert small_store.views(Split.TEST) == ("x1", "x2", "x4", TILE)
    assert [small_store.side(view) for view in ("tile", "x1", "x4")] == [128, 64, 64]
    assert small_store.box(Split.TEST, TILE, 0) == Box(top=0, left=0, side=128)
    assert small_store.box(Split.TEST, "x1", 0) == Box(top=0, left=0, side=128)
    assert small_store.box(Split.TEST, "x4", 3).side == 32


def test_a_pickled_store_reads_the_same(small_store: Store) -> None:
    small_store.picture(Split.TEST, "x2", Stain.HE, 1)  # what is cached must not travel
    data = pickle.dumps(small_store)
    again = pickle.loads(data)
    assert len(data) < 3000
    assert again.manifest == small_store.manifest
    assert again.pairs(Split.TEST) == small_store.pairs(Split.TEST)
    assert np.array_equal(
        again.picture(Split.TEST, "x2", Stain.HE, 1), small_store.picture(Split.TEST, "x2", Stain.HE, 1)
    )


@pytest.mark.parametrize(
    ("split", "view", "pair", "index", "message"),
    [
        (Split.TEST, "x8", 0, 0, "no view 'x8' in .*; it has x1, x2, x4"),
        (Split.TEST, "x4", 4, 0, r"no picture 0 of pair 4 in test/x4 of .*: it has 4 pairs with 1 each"),
        (Split.TEST, "x4", -1, 0, "no picture 0 of pair -1 in test/x4"),
        (Split.TEST, "x4", 0, 1, "no picture 1 of pair 0 in test/x4"),
        (Split.VAL, "x4", 0, 0, "no picture 0 of pair 0 in val/x4 of .*: it has 0 pairs"),
    ],
)
def test_what_does_not_exist_is_named(
    small_store: Store, split: Split, view: str, pair: int, index: int, message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        small_store.picture(split, view, Stain.HE, pair, index)
    with pytest.raises(StoreError, match=message):
        small_store.box(split, view, pair, index)


def test_a_deleted_shard_is_an_error_where_zarr_gives_zeros(copied: Path) -> None:
    (copied / X4).unlink()
    assert np.asarray(zarr.open_array(copied / "train/x4/ihc", mode="r")[3]).max() == 0
    store = Store.open(copied)
    with pytest.raises(
        StoreError,
        match=r"picture 0 of pair 3 in train/x4/ihc of .*s\.zarr cannot be read \(.*No such file.*\); "
        r"`python -m store verify .*s\.zarr` lists all damage",
    ):
        store.picture(Split.TRAIN, "x4", Stain.IHC, 3)
    store.picture(Split.TRAIN, "x4", Stain.IHC, 2)  # another shard


def test_every_flipped_bit_of_a_shard_is_noticed(copied: Path, small_store: Store) -> None:
    shard = copied / X4
    whole = shard.read_bytes()
    plain = {pair: small_store.picture(Split.TRAIN, "x4", Stain.IHC, pair) for pair in (3, 4, 5)}
    shard.chmod(0o644)
    for place in np.random.default_rng(0).integers(0, 8 * len(whole), 40):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        shard.write_bytes(damaged)
        store, errors = Store.open(copied), []
        for pair in plain:
            try:
                assert np.array_equal(store.picture(Split.TRAIN, "x4", Stain.IHC, pair), plain[pair])
            except StoreError as error:
                errors.append(str(error))
        assert len(errors) in (1, 3), "one picture, or all when the index is hit"
        assert all("its checksum is wrong: the bytes on disk were altered" in error for error in errors)


@pytest.mark.parametrize("length", [0, 1, 50, -1])
def test_a_truncated_shard_is_noticed(copied: Path, length: int) -> None:
    shard = copied / X4
    data = shard.read_bytes()
    shard.chmod(0o644)
    shard.write_bytes(data[:length])
    with pytest.raises(StoreError, match=r"cannot be read \((the shard is too short|its checksum is wrong)"):
        Store.open(copied).picture(Split.TRAIN, "x4", Stain.IHC, 4)


@pytest.mark.parametrize("name", ["train/pair/id", "train/pair/he_digest", "train/x2/box"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"\x00" * 40)], ids=["gone", "altered"])
def test_tables_are_never_read_as_empty(copied: Path, name: str, damage: Callable[[Path], object]) -> None:
    file = next(file for file in sorted((copied / name / "c").rglob("*")) if file.is_file())
    file.chmod(0o644)
    damage(file)
    store = Store.open(copied)
    with pytest.raises(StoreError, match=rf"table {name} of .*s\.zarr cannot be read \(.*store verify"):
        store.box(Split.TRAIN, "x2", 0) if name.endswith("box") else store.pairs(Split.TRAIN)


def test_lost_metadata_are_named(copied: Path) -> None:
    (copied / "test/pair/slide/zarr.json").unlink()
    with pytest.raises(StoreError, match=r"table test/pair/slide of .* cannot be read \(its metadata are missing\)"):
        Store.open(copied).pairs(Split.TEST)


def test_an_unfinished_store_says_how_to_finish_it(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    with open_writer(path, small_manifest(), small_table()):
        pass
    with pytest.raises(StoreError, match=r"is not finished: its journal is s\.zarr\.journal; run the `prep build`"):
        Store.open(path)
    with pytest.raises(StoreError, match=r"is the journal of an unfinished one; run the `prep build` that started it"):
        Store.open(journal_of(path))
    shutil.rmtree(path)
    with pytest.raises(StoreError, match=r"only its journal s\.zarr\.journal exists; run the `prep build`"):
        Store.open(path)


def test_a_wrong_name_is_answered_with_the_stores_beside_it(small_store: Store, tmp_path: Path) -> None:
    wrong = small_store.path.with_name("smal.zarr")
    with pytest.raises(
        StoreError, match=rf"smal\.zarr is no store: it does not exist; stores in {wrong.parent}: small"
    ):
        Store.open(wrong)
    with pytest.raises(StoreError, match=rf"it is a part of one; give {small_store.path}$"):
        Store.open(small_store.path / "train" / "x1" / "he" / "c")
    with pytest.raises(
        StoreError, match="it does not exist; correct the path, or build a store with `python -m prep build`"
    ):
        Store.open(tmp_path / "nowhere" / "s.zarr")


def test_other_files_are_no_store(small_store: Store, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "tile.png").write_bytes(b"png")
    zarr.create_group(tmp_path / "foreign.zarr")
    (tmp_path / "text.zarr").mkdir()
    (tmp_path / "text.zarr" / "zarr.json").write_bytes(b"\xff\xfe{")
    for path, message in (
        (tmp_path / "data", "a folder without zarr.json; correct the path"),
        (tmp_path / "tile.png", "it is a file; give the folder"),
        (tmp_path / "foreign.zarr", r"foreign.zarr was not made by magstain, or its zarr.json is damaged: it holds no"),
        (tmp_path / "text.zarr", r"text.zarr was not made by magstain, or its zarr.json is damaged"),
        (small_store.path / "train", f"it is a part of one; give {small_store.path}$"),
    ):
        with pytest.raises(StoreError, match=message):
            Store.open(path)


def edit(path: Path, change: Callable[[dict[str, object]], object], *, seal: bool) -> None:
    """Change the manifest of a store as a text editor would, or (`seal`) as another version of the writer would."""
    file = path / "zarr.json"
    document = json.loads(file.read_bytes())
    change(document["attributes"]["manifest"])
    file.chmod(0o644)
    file.write_bytes(json.dumps(document, indent=2, ensure_ascii=False).encode())
    if seal:
        root = read_root(path)
        assert root_document(root.manifest, root.files) == root.document
        sealed = Root(manifest=root.manifest, files=root.files, document=root.document).computed_seal()
        file.write_bytes(root.document.replace(root.manifest.seal.encode(), sealed.encode()))


def test_what_computed_a_network_is_recorded_unless_it_is_the_plain_way(copied: Path) -> None:
    """So stores from before it was recorded are read, and keep their bytes and seals."""
    root = read_root(copied)
    assert root.manifest.upscaler.kernels == ""
    assert b"kernels" not in root.document
    edit(copied, lambda manifest: manifest["upscaler"].update(kernels="compiled"), seal=True)  # type: ignore[attr-defined] # a tree
    again = Store.open(copied)
    assert again.manifest.upscaler == replace(root.manifest.upscaler, kernels="compiled")
    assert again.manifest.seal != root.manifest.seal
    edit(copied, lambda manifest: manifest["upscaler"].update(kernels="a\nb"), seal=False)  # type: ignore[attr-defined] # a tree
    with pytest.raises(StoreError, match="kernels = "):
        Store.open(copied)


def test_a_newer_format_asks_for_its_program(copied: Path) -> None:
    edit(copied, lambda manifest: manifest.update(format=2, colour="new"), seal=False)
    with pytest.raises(StoreError, match=r"has store format 2, this program reads format 1; use the version"):
        Store.open(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "new"}, r"a manifest that does not fit format 1 \(unknown setting 'colour'"),
        ({"tile_side": "128"}, r"a manifest that does not fit format 1 \(setting tile_side = \"128\""),
        ({"unit": 0}, r"a manifest that does not fit format 1 \(.*must all be at least 1"),
        (
            {"synthetic": False},
            r"was altered after it was sealed: its zarr.json does not match the seal; restore that file",
        ),
    ],
)
def test_an_edited_manifest_is_noticed(copied: Path, change: dict[str, object], message: str) -> None:
    edit(copied, lambda manifest: manifest.update(change), seal=False)
    with pytest.raises(StoreError, match=message):
        Store.open(copied)


def test_the_seal_is_over_every_byte_of_the_root(copied: Path) -> None:
    edit(copied, lambda manifest: manifest.update(stain="HER2"), seal=True)
    assert Store.open(copied).manifest.stain == "HER2"
    file = copied / "zarr.json"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(StoreError, match="was altered after it was sealed"):
        Store.open(copied)
