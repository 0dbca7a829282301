"""Damage in an unfinished store or its journal: the same build ends with the same bytes, and never seals damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from store.files import files_of
from store.format.manifest import journal_of
from store.location.open import locate
from store.reader import Store
from store.schema import StoreError
from store.verify import verify
from store.writing.repair import start_repair
from store.writing.writer import UnitsLostError, open_writer
from tests.support.damage import alter, cut, empty, replace_by_folder
from tests.support.disks import contents
from tests.support.repairs import X2
from tests.support.s3 import begin, objects
from tests.support.stores import small_blocks, small_manifest, small_table

HURTS: dict[str, Callable[[Path], object]] = {
    "flipped": alter, "cut": cut, "emptied": empty, "deleted": Path.unlink, "folder": replace_by_folder
}  # fmt: skip
KINDS = (
    "zarr.json", "train/zarr.json", "train/x1/he/zarr.json", "train/pair/he_digest/c/0/0", "train/pair/id/zarr.json",
    "skipped/reason/zarr.json", X2, "train/x4/box/c/0/0/0", "train/tile/ihc/c/2/0/0/0",
)  # fmt: skip
RECORDS = ("begun", "train-000001.json")


def every_file_hurt_in_two_ways() -> list[tuple[str, str]]:
    """Every kind of file, and every kind of damage to four files or more."""
    hurts = [*HURTS]
    return [
        (name, hurts[(place + way) % len(hurts)]) for place, name in enumerate((*KINDS, *RECORDS)) for way in (0, 2)
    ]


def build(address: Path | str) -> list[str]:
    """What `prep build` does: build what is missing, again where it is damaged; returns the units that were built."""
    built = []
    with open_writer(address, small_manifest(), small_table()) as writer:
        for _ in range(3):
            for unit in writer.pending():
                writer.write(unit, small_blocks(writer.manifest, unit))
                built.append(unit.name)
            try:
                writer.seal()
            except UnitsLostError:
                continue
            return built
    raise AssertionError("never sealed")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an unfinished store, `s.zarr`: the units of train are committed, those of test are not."""
    folder = tmp_path_factory.mktemp("begun")
    begin(str(folder / "s.zarr"), units=3)
    return folder


@pytest.fixture
def store(begun: Path, tmp_path: Path) -> Path:
    """A copy of the unfinished store."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return tmp_path / "s.zarr"


@pytest.mark.parametrize(("name", "hurt"), every_file_hurt_in_two_ways())
def test_one_damaged_file_is_written_or_built_again(store: Path, small_store: Store, name: str, hurt: str) -> None:
    HURTS[hurt]((journal_of(store) if name in RECORDS else store) / name)
    built = build(store)
    again = {X2: "train-000001", "train-000001.json": "train-000001", "train/x4/box/c/0/0/0": "train-000000",
             "train/tile/ihc/c/2/0/0/0": "train-000002"}.get(name)  # fmt: skip
    assert sorted(built) == sorted(["test-000000", "test-000001", *([again] if again else [])])
    assert contents(store) == contents(small_store.path)
    assert [file.name for file in store.parent.iterdir()] == ["s.zarr"]


def test_a_shape_that_zarr_believes_is_not_sealed(
    store: Path, small_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("train/pair/id/zarr.json", "train/x1/he/zarr.json")
    for name in names:
        tree = json.loads((store / name).read_bytes())
        tree["shape"][0] -= 2
        (store / name).write_text(json.dumps(tree, indent=2))
    build(store)
    assert contents(store) == contents(small_store.path)
    said = capsys.readouterr().err
    assert f"{store}: 2 damaged file(s) are written again:" in said
    assert all(name in said for name in names)


@pytest.mark.parametrize("name", ["train/x1/he/zarr.json", "train/x2/ihc/c/2/0/0/0/0", "test/x4/box/c/1/0/0"])
def test_damage_between_the_last_unit_and_the_seal_is_found(tmp_path: Path, small_store: Store, name: str) -> None:
    path = tmp_path / "s.zarr"
    with open_writer(path, small_manifest(), small_table()) as writer:
        for unit in writer.pending():
            writer.write(unit, small_blocks(writer.manifest, unit))
        alter(path / name)
        if "/c/" in name:
            with pytest.raises(UnitsLostError) as caught:
                writer.seal()
            assert writer.pending() == list(caught.value.units)
            for unit in writer.pending():
                writer.write(unit, small_blocks(writer.manifest, unit))
        writer.seal()
    assert contents(path) == contents(small_store.path)


@pytest.mark.parametrize("change", ["digest", "path", "list", "number"])
def test_an_entry_that_says_something_else_commits_nothing(store: Path, small_store: Store, change: str) -> None:
    entry = journal_of(store) / "train-000001.json"
    record = json.loads(entry.read_bytes())
    path, digest = next(iter(record["digests"].items()))
    record["digests"][path] = "0" * 64
    others = {"path": {"digests": {"x": digest}, "sha256": record["sha256"]}, "list": [digest], "number": 7}
    entry.write_text(json.dumps(record if change == "digest" else others[change]))
    assert build(store).count("train-000001") == 1
    assert contents(store) == contents(small_store.path)


@pytest.mark.parametrize("altered", [None, "entry", X2])
def test_a_journal_of_an_earlier_version_is_resumed(store: Path, small_store: Store, altered: str | None) -> None:
    """Its entries have no checksum, and nothing says what was begun."""
    (journal_of(store) / "begun").unlink()
    for file in journal_of(store).glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_bytes())["digests"], indent=1))
    if altered == "entry":
        alter(journal_of(store) / "train-000001.json")
    elif altered:
        alter(store / altered)
    assert sorted(build(store)) == ["test-000000", "test-000001", *(["train-000001"] if altered else [])]
    assert contents(store) == contents(small_store.path)


def test_a_journal_of_an_earlier_version_beside_a_damaged_root_says_what_to_do(store: Path) -> None:
    (journal_of(store) / "begun").unlink()
    for name in ("zarr.json", "train/pair/id/zarr.json"):
        whole = (store / name).read_bytes()
        cut(store / name)
        before = contents(store.parent)
        with pytest.raises(
            StoreError, match=r"is unfinished and damaged .* remove both and run the same command again"
        ):
            build(store)
        assert contents(store.parent) == before
        (store / name).write_bytes(whole)


def test_a_damaged_root_does_not_let_other_settings_or_tiles_in(store: Path) -> None:
    cut(store / "zarr.json")
    before = contents(store.parent)
    with (
        pytest.raises(StoreError, match="give those that it was started with, or remove both"),
        open_writer(store, replace(small_manifest(), margin=8), small_table()),
    ):
        pass
    with pytest.raises(StoreError, match="was started with other settings, from other tiles or with"):
        start_repair(store, replace(small_manifest(), margin=8), small_table())
    assert contents(store.parent) == before


@pytest.mark.parametrize("name", ["notes.txt", "train/x1/he/notes.txt", "train/unit/notes"])
def test_a_foreign_file_is_not_sealed(store: Path, name: str) -> None:
    (store / name).parent.mkdir(exist_ok=True)
    (store / name).write_text("mine")
    with pytest.raises(StoreError, match=rf"holds 1 files that do not belong to it \({name}\); remove them first"):
        build(store)
    assert (store / name).read_text() == "mine"


def test_damage_in_an_interrupted_repair(copied: Path, small_store: Store) -> None:
    """Every record and every kind of file, one at a time: the repair, or a build, ends with the seal."""
    for name in (X2, "test/pair/id/c/0"):
        alter(copied / name)
    start_repair(copied, small_manifest(), small_table())
    kept = copied.parent / "kept"
    for part in (copied, journal_of(copied)):
        shutil.copytree(part, kept / part.name)
    chance = np.random.default_rng(0)
    records = [name for name in files_of(kept / journal_of(copied).name) if name != "lock"]
    assert {"begun", "repair", "train-000001.expected", "test-000000.json"} <= {*records}
    for name in [*records, *KINDS]:
        for part in (copied, journal_of(copied)):
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(kept / part.name, part)
        file = (journal_of(copied) if name in records else copied) / name
        HURTS[str(chance.choice([*HURTS]))](file)
        if chance.random() < 0.5:
            start_repair(copied, small_manifest(), small_table())
        build(copied)
        assert contents(copied) == contents(small_store.path), name


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("zarr.json", True),
        ("train/x1/he/zarr.json", False),
        (X2, True),
        (X2, False),
        ("begun", False),
        ("train-000001.json", True),
    ],
)
def test_damage_of_an_unfinished_store_in_a_bucket(bucket: str, small_store: Store, name: str, lost: bool) -> None:
    address = f"{bucket}/small.zarr"
    begin(address, units=3)
    there = locate(address).beside(".journal") if name in RECORDS else locate(address)
    there.remove(name) if lost else there.write(name, there.read(name)[:-9])
    build(address)
    assert objects(address) == objects(small_store.location)
    assert verify(address).intact
