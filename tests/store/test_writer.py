"""The writer: an interrupted build ends with the same bytes, and an error leaves everything as it was."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from store.disk.locks import locked
from store.format.layout import plan_arrays
from store.format.manifest import COPY, all_units, journal_of
from store.location.local import Folder
from store.pairs.table import Skipped, Table
from store.reader import Store
from store.schema import Manifest, Split, Stain, StoreError
from store.verify import verify
from store.writing.writer import finish_sealing, open_writer
from tests.support.disks import contents, read_only
from tests.support.places import ROOT
from tests.support.stores import build_small_store, small_blocks, small_manifest, small_table


def begin(path: Path, units: int, manifest: Manifest | None = None) -> Manifest:
    """Build the first `units` units of the small store and stop."""
    manifest = manifest or small_manifest()
    with open_writer(path, manifest, small_table()) as writer:
        for unit in writer.pending()[:units]:
            writer.write(unit, small_blocks(manifest, unit))
    return manifest


def test_a_store_interrupted_after_every_unit_is_byte_identical(small_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.zarr"
    for done in range(6):
        manifest = begin(path, units=0)
        with open_writer(path, manifest, small_table()) as writer:
            assert writer.pending() == all_units(manifest)[done:]
        begin(path, units=1)
    assert build_small_store(path).manifest.seal == small_store.manifest.seal
    assert contents(path) == contents(small_store.path)


def test_a_killed_build_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = build_small_store(tmp_path / "whole.zarr", unit=1).path, tmp_path / "killed.zarr"
    script = (
        "import sys; from pathlib import Path; from tests.support.stores import build_small_store; "
        "build_small_store(Path(sys.argv[1]), unit=1)"
    )
    build = subprocess.Popen([sys.executable, "-c", script, str(killed)], cwd=ROOT)
    while len([*journal_of(killed).glob("*.json")]) < 3 and build.poll() is None:
        time.sleep(0.002)
    build.send_signal(signal.SIGKILL)
    assert build.wait() == -signal.SIGKILL
    assert contents(build_small_store(killed, unit=1).path) == contents(whole)
    assert {*tmp_path.iterdir()} == {whole, killed}


def test_partial_files_are_removed_when_the_build_resumes(small_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    begin(path, units=2)
    for folder in (path, path / "train/x1/he/c/0/0/0/0"):
        (folder / "0f3a.partial").write_bytes(b"half")
    (journal_of(path) / "train-000002.json.partial").write_bytes(b"{")
    (journal_of(path) / "skeleton").mkdir()
    assert contents(build_small_store(path).path) == contents(small_store.path)
    assert [file.name for file in tmp_path.iterdir()] == ["s.zarr"]


def test_files_of_a_killed_worker_are_removed_when_the_store_is_sealed(small_store: Store, tmp_path: Path) -> None:
    """A Dask worker may die in the middle of a write, and the build continues without it."""
    manifest, path = small_manifest(), tmp_path / "s.zarr"
    with open_writer(path, manifest, small_table()) as writer:
        for unit in writer.pending():
            writer.write(unit, small_blocks(manifest, unit))
            (path / "train/tile/he/c/1/0/0/.4711-aa.partial").parent.mkdir(parents=True, exist_ok=True)
            (path / "train/tile/he/c/1/0/0/.4711-aa.partial").write_bytes(b"half a shard")
        writer.seal()
    assert contents(path) == contents(small_store.path)


def test_a_build_interrupted_while_it_was_laid_out_starts_again(small_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    skeleton = journal_of(path) / "skeleton" / "train"
    skeleton.mkdir(parents=True)
    (skeleton / "zarr.json").write_bytes(b"{")
    assert contents(build_small_store(path).path) == contents(small_store.path)


def test_a_shard_or_a_journal_that_was_lost_is_built_again(small_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    manifest = begin(path, units=5)
    (path / "train/x4/ihc/c/1/0/0/0/0").unlink()
    with open_writer(path, manifest, small_table()) as writer:
        assert [unit.name for unit in writer.pending()] == ["train-000001"]
        with pytest.raises(StoreError, match="lacks 1 units, the first is train-000001: build them before sealing"):
            writer.seal()
    for entry in journal_of(path).glob("test-*.json"):
        entry.unlink()
    assert contents(build_small_store(path).path) == contents(small_store.path)


def test_an_old_entry_never_commits_new_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.zarr"
    manifest = begin(path, units=3)
    (path / "train/x4/ihc/c/1/0/0/0/0").unlink()
    with monkeypatch.context() as patch, open_writer(path, manifest, small_table()) as writer:
        (unit,) = [unit for unit in writer.pending() if unit.split is Split.TRAIN]
        patch.setattr(Folder, "write", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            writer.write(unit, small_blocks(manifest, unit))
    entries = {file.name for file in journal_of(path).glob("*.json")}
    assert entries == {"train-000000.json", "train-000002.json"}
    shutil.rmtree(path)  # without the journal beside it
    begin(path, units=0, manifest=replace(manifest, seed=1))
    assert sorted(file.name for file in journal_of(path).iterdir()) == ["begun"]


def test_an_entry_holds_the_digest_of_every_shard_of_its_unit(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    manifest = begin(path, units=1)
    record = json.loads((journal_of(path) / "train-000000.json").read_bytes())
    assert record["sha256"] == hashlib.sha256(json.dumps(entry := record["digests"]).encode()).hexdigest()
    assert list(entry) == [plan.path for plan in plan_arrays(manifest, Split.TRAIN)]
    assert all(len(bytes.fromhex(digest)) == 32 for digest in entry.values())


def test_everything_is_synced_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is synced under one name and renamed; its number stays."""
    order = itertools.count()
    synced: dict[int, int] = {}  # inode: when it was synced last
    monkeypatch.setattr(os, "fsync", lambda handle: synced.update({os.fstat(handle).st_ino: next(order)}))
    path, manifest = tmp_path / "s.zarr", small_manifest()
    with open_writer(path, manifest, small_table()) as writer:
        assert {file.stat().st_ino for file in path.rglob("*") if file.is_file()} <= synced.keys()
        for unit in writer.pending():
            writer.write(unit, small_blocks(manifest, unit))
            shards = [path / plan.shard_name(unit) for plan in plan_arrays(manifest, unit.split)]
            relied = [place.stat().st_ino for shard in shards for place in (shard, shard.parent)]
            entry = (journal_of(path) / f"{unit.name}.json").stat().st_ino
            assert max(synced[number] for number in relied) < synced[entry]
        writer.seal()
    numbers = {file.stat().st_ino for file in path.rglob("*") if file.is_file()}
    assert numbers <= synced.keys()
    numbers.remove((path / COPY).stat().st_ino)  # it is written after the root, while the journal is still there
    assert max(synced[number] for number in numbers) == synced[(path / "zarr.json").stat().st_ino]


def test_sealing_removes_the_journal_and_the_write_permission(small_store: Store) -> None:
    assert [file.name for file in small_store.path.parent.iterdir()] == ["small.zarr"]
    modes = [file.stat().st_mode & 0o222 for file in small_store.path.rglob("*") if file.is_file()]
    assert len(modes) == 127
    assert set(modes) == {0}


def test_sealing_interrupted_before_the_journal_is_removed_is_finished(small_store: Store, tmp_path: Path) -> None:
    path = build_small_store(tmp_path / "s.zarr").path
    journal_of(path).mkdir()
    (path / "zarr.json").chmod(0o644)
    finish_sealing(path)
    finish_sealing(path)
    assert not journal_of(path).exists()
    assert (path / "zarr.json").stat().st_mode & 0o222 == 0
    with read_only(tmp_path):
        finish_sealing(path)  # a finished store on a read-only disk is finished
    assert contents(path) == contents(small_store.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"margin": 8, "seed": 1},
            r"was started with other settings or other sources \(margin: 4 -> 8; seed: 0 -> 1\)",
        ),
        ({"software": {"test": "2"}}, r"\(software.test: \"1\" -> \"2\"\); use the old"),
        ({"counts": {Split.TRAIN: 8}}, r"\(counts.test: 4 -> null\)"),
    ],
)
def test_other_settings_are_refused_and_change_nothing(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "s.zarr"
    manifest = begin(path, units=1)
    before = contents(tmp_path)
    with (
        pytest.raises(StoreError, match=message) as caught,
        open_writer(path, replace(manifest, **change), small_table()),  # type: ignore[arg-type] # any field
    ):
        pass
    assert "s.zarr.journal beside it, or choose another STORE=" in str(caught.value)
    assert contents(tmp_path) == before


def test_other_sources_are_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    manifest, table = begin(path, units=1), small_table()
    train = table.pairs[Split.TRAIN]
    changed = (train[0], replace(train[1], he_digest="22" * 32), *train[2:])
    before = contents(tmp_path)
    with (
        pytest.raises(StoreError, match=r"sources of .* changed .*pair 's1_1_0' of train: he_digest: \".*-> \"22.*\""),
        open_writer(path, manifest, Table(pairs={**table.pairs, Split.TRAIN: changed})),
    ):
        pass
    skipped = (Skipped(id="s9", split=Split.TEST, he="a", ihc="b", reason="c"),)
    with (
        pytest.raises(StoreError, match=r"the skipped pairs of .* changed since it was started"),
        open_writer(path, manifest, Table(pairs=table.pairs, skipped=skipped)),
    ):
        pass
    assert contents(tmp_path) == before


def test_a_finished_store_is_never_written_to(tmp_path: Path) -> None:
    path = build_small_store(tmp_path / "s.zarr").path
    before = contents(tmp_path)
    with pytest.raises(StoreError, match=r"s\.zarr is sealed; a finished store is never written to. Remove it first"):
        begin(path, units=0)
    assert contents(tmp_path) == before


def test_a_path_without_a_store_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("precious")
    (tmp_path / "file.zarr").write_text("precious")
    before = contents(tmp_path)
    for name, message in (
        ("thesis", "is no store: a folder without zarr.json; correct the path"),
        ("file.zarr", "is no store: it is a file"),
        ("file.zarr/s.zarr", "a part of the path is a file, not a folder: write elsewhere"),
    ):
        with pytest.raises(StoreError, match=message):
            begin(tmp_path / name, units=0)
        assert contents(tmp_path) == before


def test_one_builder_at_a_time(tmp_path: Path) -> None:
    path, manifest = tmp_path / "s.zarr", small_manifest()
    with open_writer(path, manifest, small_table()):
        before = contents(tmp_path)
        with pytest.raises(StoreError, match=r"s\.zarr is being written by another process; wait for it or stop it"):
            begin(path, units=1)
        assert contents(tmp_path) == before
    begin(path, units=1)


def test_rows_that_zarr_would_change_are_refused(tmp_path: Path) -> None:
    path, manifest = tmp_path / "s.zarr", small_manifest()
    unit = all_units(manifest)[0]
    blocks = small_blocks(manifest, unit)
    with open_writer(path, manifest, small_table()) as writer:
        before = contents(tmp_path)
        for name, block in (("train/x2/he", blocks["train/x2/he"][:1]), ("train/tile/he", np.zeros((3, 128, 128, 3)))):
            with pytest.raises(AssertionError, match=name):
                writer.write(unit, {**blocks, name: block})
        assert contents(tmp_path) == before


def test_a_sealed_store_opens_with_bare_zarr(small_store: Store) -> None:
    group = zarr.open(small_store.path, mode="r")
    assert isinstance(group, zarr.Group)
    assert sorted(group.keys()) == ["skipped", "test", "train"]
    assert sorted(group["train"].keys()) == ["pair", "tile", "unit", "x1", "x2", "x4"]  # type: ignore[union-attr] # a group
    manifest = small_manifest()
    for unit in all_units(manifest):
        for name, block in small_blocks(manifest, unit).items():
            array = group[name]
            assert isinstance(array, zarr.Array)
            assert np.array_equal(np.asarray(array[unit.first : unit.stop]), block)


def test_a_black_picture_is_stored_like_any_other(tmp_path: Path) -> None:
    path, manifest = tmp_path / "s.zarr", small_manifest()
    with open_writer(path, manifest, small_table()) as writer:
        for unit in writer.pending():
            blocks = small_blocks(manifest, unit)
            black = {name: np.zeros_like(block) for name, block in blocks.items() if name.endswith("x2/he")}
            blocks[f"{unit.split}/x4/he"][-1] = 0
            writer.write(unit, blocks | black)
        writer.seal()
    assert verify(path).intact
    store = Store.open(path)
    assert store.picture(Split.TEST, "x2", Stain.HE, 3).max() == 0
    assert [store.picture(Split.TEST, "x4", Stain.HE, pair).max() == 0 for pair in range(4)] == [
        False,
        False,
        True,
        True,
    ]


def test_a_full_disk_leaves_no_incomplete_unit(small_store: Store, small_disk: Path) -> None:
    path = small_disk / "deep" / "s.zarr"
    with pytest.raises(StoreError, match=r"cannot write .*s\.zarr: .*; the disk is full: free some space and run the"):
        begin(path, units=5)
    assert contents(small_disk) == {}  # not even the layout of the store fits
    grow(small_disk, "1200k")
    with pytest.raises(StoreError, match="the disk is full"):
        begin(path, units=5)
    lying, entries = contents(path), [entry.stem for entry in journal_of(path).glob("*.json")]
    assert 0 < len(entries) < 5
    for unit in all_units(small_manifest()):
        shards = {plan.shard_name(unit) for plan in plan_arrays(small_manifest(), unit.split)}
        assert shards & lying.keys() == (shards if unit.name in entries else set())
    assert not [name for name in contents(small_disk) if name.endswith(".partial")]
    grow(small_disk, "8m")
    assert contents(build_small_store(path).path) == contents(small_store.path)


def grow(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def test_a_read_only_disk_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "begun.zarr", units=1)
    before = contents(tmp_path)
    with read_only(tmp_path):
        for name in ("begun.zarr", "new.zarr", "deep/new.zarr"):
            with pytest.raises(StoreError, match=r"cannot write .*: Read-only file system; the disk is read-only"):
                begin(tmp_path / name, units=1)
    assert contents(tmp_path) == before


def test_a_lock_that_its_last_holder_removed_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another build finishes after the lock file is opened and before it is locked: others would not see the lock."""
    monkeypatch.setattr(fcntl, "flock", lambda handle, _: Path(handle.name).unlink())
    with (
        pytest.raises(
            StoreError, match="s was just finished or abandoned by another process; run the same command again"
        ),
        locked(tmp_path / "lock", "s"),
    ):
        pass
