"""Repair: only damaged units are rebuilt, and the store is then the old one, byte for byte."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from store.files import files_of
from store.format.manifest import COPY, all_units, read_root
from store.pairs.table import Table
from store.reader import Store
from store.schema import Split, StoreError
from store.verify import verify
from store.writing.repair import start_repair
from store.writing.repair_checks import intact_root
from store.writing.writer import open_writer
from tests.support.damage import alter, replace_by_folder
from tests.support.disks import contents
from tests.support.repairs import BOX, DIGESTS, ROOT, TILE, X2, finish, repair
from tests.support.stores import small_blocks, small_manifest, small_table

TEST = [unit.name for unit in all_units(small_manifest()) if unit.split is Split.TEST]  # test-000000 and 000001


def cut(file: Path) -> None:
    file.chmod(0o644)
    os.truncate(file, file.stat().st_size // 2)


def blank(file: Path) -> None:
    size = file.stat().st_size
    file.chmod(0o644)
    file.write_bytes(bytes(size))


def edit(old: bytes, new: bytes) -> Callable[[Path], None]:
    def replaced(file: Path) -> None:
        data = file.read_bytes()
        assert data.count(old) == 1
        file.chmod(0o644)
        file.write_bytes(data.replace(old, new))

    return replaced


@pytest.mark.parametrize(
    ("damage", "units", "documents"),
    [
        ({}, [], []),
        ({X2: alter}, ["train-000001"], []),
        ({X2: Path.unlink}, ["train-000001"], []),
        ({X2: cut}, ["train-000001"], []),
        ({X2: blank, BOX: alter, TILE: Path.unlink}, ["train-000001", *TEST], []),
        ({"train/x4/ihc/zarr.json": alter}, [], ["train/x4/ihc/zarr.json"]),
        ({"train/zarr.json": Path.unlink}, [], ["train/zarr.json"]),
        ({"train/pair/he/c/0": alter, "skipped/id/zarr.json": cut}, [], ["skipped/id/zarr.json", "train/pair/he/c/0"]),
        ({DIGESTS: alter}, [], [DIGESTS]),
        ({DIGESTS: Path.unlink, "test/unit/digest/zarr.json": cut}, [], [DIGESTS, "test/unit/digest/zarr.json"]),
        ({DIGESTS: alter, BOX: alter}, TEST, [DIGESTS]),  # it is lost which shards of test are intact
        ({DIGESTS: alter, X2: alter}, ["train-000001"], [DIGESTS]),
        ({ROOT: edit(b'"synthetic": true', b'"synthetic": fals')}, [], [ROOT]),
        ({ROOT: edit(b'"synthetic": true', b'"synthetic": false')}, [], [ROOT]),
        ({ROOT: edit(b'"sealed": true', b'"sealed": false')}, [], [ROOT]),
        ({ROOT: edit(b'"view_side": 64,\n      "recipe"', b'"view_side": 65,\n      "recipe"')}, [], [ROOT]),
        ({ROOT: cut}, [], [ROOT]),
        ({ROOT: blank}, [], [ROOT]),
        ({ROOT: Path.unlink}, [], [ROOT]),
        ({ROOT: Path.unlink, X2: alter, BOX: Path.unlink}, ["train-000001", "test-000000"], [ROOT]),
        ({ROOT: cut, DIGESTS: alter, X2: alter, "test/pair/id/zarr.json": alter},
         ["train-000001"], [DIGESTS, "test/pair/id/zarr.json", ROOT]),
        ({COPY: alter}, [], [COPY]),
        ({COPY: Path.unlink}, [], [COPY]),
        ({COPY: replace_by_folder, X2: alter}, ["train-000001"], [COPY]),
        ({f"{group}/zarr.json": Path.unlink for group in ("train", "test", "test/unit", "train/pair", "skipped")},
         [], ["skipped/zarr.json", "test/unit/zarr.json", "test/zarr.json", "train/pair/zarr.json", "train/zarr.json"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)  # fmt: skip
def test_the_store_is_as_it_was(
    copied: Path,
    small_store: Store,
    damage: dict[str, Callable[[Path], object]],
    units: list[str],
    documents: list[str],
) -> None:
    for name, hurt in damage.items():
        hurt(copied / name)
    repaired, pending = repair(copied)
    assert pending == units == [unit.name for unit in repaired.units]
    assert sorted(repaired.documents) == sorted(documents)
    assert contents(copied) == contents(small_store.path)
    assert verify(copied).intact
    assert repaired.old_seal == small_store.manifest.seal
    assert [file.name for file in copied.parent.iterdir()] == [copied.name]
    assert not any(file.stat().st_mode & 0o222 for file in copied.rglob("*") if file.is_file())


def test_everything_without_pictures_at_once(copied: Path, small_store: Store) -> None:
    for name in [name for name in files_of(copied) if name.endswith(ROOT) or "/pair/" in name]:
        (copied / name).unlink()
    assert repair(copied)[1] == []  # the copy of the root knows the digests of the tables
    assert contents(copied) == contents(small_store.path)


def test_a_unit_with_other_bytes_is_refused_and_nothing_is_lost(copied: Path, small_store: Store) -> None:
    for name in (X2, BOX):
        alter(copied / name)
    repaired = start_repair(copied, small_manifest(), small_table())
    with open_writer(copied, repaired.manifest, small_table()) as writer:
        before = contents(copied.parent)
        for unit in writer.pending():
            blocks = small_blocks(repaired.manifest, unit)
            other = f"{unit.split}/x4/ihc"
            with pytest.raises(
                StoreError,
                match=rf"unit {unit.name} of .*s\.zarr was rebuilt, but {other} has other bytes than the seal covers: "
                r"weights, device, processor or libraries differ from those that made the store \(\{'test': '1'\}\); ",
            ):
                writer.write(unit, blocks | {other: blocks[other] ^ 1})
            assert contents(copied.parent) == before
            with pytest.raises(StoreError, match="lacks 2 units, the first is train-000001: build them before sealing"):
                writer.seal()
    assert repair(copied)[1] == ["train-000001", "test-000000"]
    assert contents(copied) == contents(small_store.path)


def test_a_store_that_other_libraries_made_keeps_its_manifest(copied: Path, small_store: Store) -> None:
    alter(copied / X2)
    repaired = start_repair(copied, replace(small_manifest(), software={"test": "2"}), small_table())
    assert repaired.manifest == small_manifest()
    finish(copied, repaired)
    assert contents(copied) == contents(small_store.path)


@pytest.mark.parametrize("root", ["intact", "altered", "unfinished"])
def test_other_settings_are_refused(copied: Path, root: str) -> None:
    alter(copied / X2)
    if root == "altered":
        edit(b'"synthetic": true', b'"synthetic": false')(copied / ROOT)
    elif root == "unfinished":
        start_repair(copied, small_manifest(), small_table())
    before = contents(copied.parent)
    with pytest.raises(StoreError, match=r"was made with other settings or from other tiles \(.*margin: 4 -> 8"):
        start_repair(copied, replace(small_manifest(), margin=8, settings={"margin": 8}), small_table())
    assert contents(copied.parent) == before


@pytest.mark.parametrize("name", ["none", ROOT, "train/pair/slide/zarr.json", "train/pair/he_digest/c/0/0"])
def test_other_sources_are_refused(copied: Path, name: str) -> None:
    if name != "none":
        (copied / name).unlink()
    before, table = contents(copied.parent), small_table()
    train = table.pairs[Split.TRAIN]
    changed = (replace(train[0], he_digest="22" * 32), *(replace(pair, slide="s9") for pair in train[1:]))
    with pytest.raises(StoreError, match=r"given tiles are not those that .*: its table train/pair would be different"):
        start_repair(copied, small_manifest(), Table(pairs={**table.pairs, Split.TRAIN: changed}))
    assert contents(copied.parent) == before


@pytest.mark.parametrize("name", ["notes.txt", "train/x2/he/c/1/notes.txt", "train/unit/digest/c/9/0/0"])
@pytest.mark.parametrize("root", ["intact", "lost"])
def test_extra_files_are_refused_and_kept(copied: Path, name: str, root: str) -> None:
    (copied / name).parent.mkdir(parents=True, exist_ok=True)
    (copied / name).write_text("mine")
    if root == "lost":
        (copied / ROOT).unlink()
    before = contents(copied.parent)
    with pytest.raises(StoreError, match=rf"holds 1 files that do not belong to it \({name}\); remove them first"):
        start_repair(copied, small_manifest(), small_table())
    assert contents(copied.parent) == before


def test_a_path_without_a_store_is_not_made_one(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("precious")
    (tmp_path / "empty").mkdir()
    before = contents(tmp_path)
    for name, message in (
        ("thesis", "holds 1 files that do not belong to it"),
        ("empty", "empty does not exist or is empty; build it with `python -m prep build`"),
        ("none.zarr", "none.zarr does not exist or is empty"),
        ("deep/none.zarr", "none.zarr does not exist or is empty"),
    ):
        with pytest.raises(StoreError, match=message):
            start_repair(tmp_path / name, small_manifest(), small_table())
        assert contents(tmp_path) == before


def test_an_intact_root_of_a_newer_format_is_not_damage(copied: Path, small_store: Store) -> None:
    edit(b'"format": 1', b'"format": 2')(copied / ROOT)
    assert intact_root(copied) == read_root(small_store.path)  # the seal says that a byte flipped
    root = (copied / ROOT).read_bytes()
    seal, zeros = small_store.manifest.seal.encode(), b"0" * 64
    (copied / ROOT).write_bytes(root.replace(seal, hashlib.sha256(root.replace(seal, zeros)).hexdigest().encode()))
    with pytest.raises(StoreError, match="has store format 2, this program reads format 1"):
        start_repair(copied, small_manifest(), small_table())
