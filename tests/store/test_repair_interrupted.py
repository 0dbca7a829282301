"""A repair that is interrupted anywhere is resumed by the same call; other processes are excluded."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from store.disk.locks import locked
from store.format.manifest import all_units, journal_of
from store.location.local import Folder
from store.reader import Store
from store.schema import StoreError
from store.writing.journal import ENTRY, LOCK, OLD_SEAL
from store.writing.repair import start_repair
from tests.support.damage import alter
from tests.support.disks import contents
from tests.support.places import ROOT as PROJECT
from tests.support.repairs import DIGESTS, ROOT, X2, finish, repair
from tests.support.stores import build_small_store, small_manifest, small_table

DAMAGE = {"root intact": (X2, DIGESTS, "train/pair/id/c/0"), "root lost": (X2, "train/x1/zarr.json", ROOT)}


class Killed(BaseException):
    """In place of SIGKILL: nothing catches it."""


@contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process dies in the middle of its file operation number `step`, which leaves half a file behind."""
    steps, write, remove = itertools.count(), Folder.write, Folder.remove

    def die_writing(folder: Folder, name: str, *parts: bytes) -> None:
        if next(steps) == step:
            data = b"".join(parts)
            (folder.path / name).with_name(".1-0a.partial").write_bytes(data[: len(data) // 2])
            raise Killed
        write(folder, name, *parts)

    def die_removing(folder: Folder, name: str) -> None:
        if next(steps) == step:
            raise Killed
        remove(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", die_writing)
        patch.setattr(Folder, "remove", die_removing)
        yield


@pytest.mark.parametrize("damaged", DAMAGE.values(), ids=DAMAGE)
def test_a_repair_interrupted_at_any_step_resumes(
    small_store: Store, tmp_path: Path, damaged: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(small_store.path)
    for step in itertools.count():
        path = tmp_path / f"{step}.zarr"
        shutil.copytree(small_store.path, path)
        for name in damaged:
            alter(path / name)
        try:
            with killed_at(step, monkeypatch):
                start_repair(path, small_manifest(), small_table())
        except Killed:
            repaired, pending = repair(path)
            assert pending == ["train-000001"] == [unit.name for unit in repaired.units]
            assert contents(path) == whole
            shutil.rmtree(path)
        else:
            break
    assert step >= 8  # five notes, the old seal, a document, the root


def test_building_and_sealing_interrupted_at_any_step_resume(
    copied: Path, small_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*DAMAGE["root intact"], "train/x4/box/c/2/0/0"):
        alter(copied / name)
    first = start_repair(copied, small_manifest(), small_table())
    assert [unit.name for unit in first.units] == ["train-000001", "train-000002"]
    cuts = 0
    for step in itertools.count(0, 3):
        repaired = start_repair(copied, small_manifest(), small_table())
        assert repaired.old_seal == small_store.manifest.seal
        try:
            with killed_at(step, monkeypatch):
                finish(copied, repaired)
        except Killed:
            cuts += 1
        else:
            break
    assert cuts >= 6
    assert contents(copied) == contents(small_store.path)
    assert not journal_of(copied).exists()


def test_a_repair_whose_root_is_lost_before_it_is_finished_keeps_what_it_knew(copied: Path, small_store: Store) -> None:
    for name in (X2, DIGESTS):
        alter(copied / name)
    start_repair(copied, small_manifest(), small_table())
    (copied / ROOT).write_bytes(b"")
    repaired, pending = repair(copied)
    assert pending == ["train-000001"] == [unit.name for unit in repaired.units]
    assert contents(copied) == contents(small_store.path)


def test_a_killed_repair_resumes(tmp_path: Path) -> None:
    path = build_small_store(tmp_path / "s.zarr", unit=1).path
    whole = contents(path)
    for unit in all_units(small_manifest(unit=1))[1:]:
        alter(path / f"{unit.split}/x2/ihc/c/{unit.index}/0/0/0/0")
    script = (
        "import sys; from pathlib import Path; from store.writing.repair import start_repair; "
        "from tests.support.repairs import finish; from tests.support.stores import small_manifest, small_table; "
        "path = Path(sys.argv[1]); "
        "finish(path, start_repair(path, small_manifest(unit=1), small_table()))"
    )
    repair = subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=PROJECT)
    while len([*journal_of(path).glob(f"*{ENTRY}")]) < 4 and repair.poll() is None:
        time.sleep(0.002)
    repair.send_signal(signal.SIGKILL)
    assert repair.wait() == -signal.SIGKILL
    assert (journal_of(path) / OLD_SEAL).exists()
    repaired = start_repair(path, small_manifest(unit=1), small_table())
    assert 0 < len(repaired.units) < 11
    finish(path, repaired)
    assert contents(path) == whole
    assert [file.name for file in tmp_path.iterdir()] == ["s.zarr"]


def test_one_repair_at_a_time(copied: Path) -> None:
    journal_of(copied).mkdir()
    with locked(journal_of(copied) / LOCK, "s.zarr"):
        before = contents(copied.parent)
        with pytest.raises(StoreError, match=r"s\.zarr is being written by another process; wait for it or stop it"):
            start_repair(copied, small_manifest(), small_table())
        assert contents(copied.parent) == before
