"""Stores and records on file systems that lack locks, fsync of folders or permissions."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from store.disk.locks import locked
from store.files import sync, write_whole
from store.format.manifest import JOURNAL
from store.location.local import Folder
from store.reader import Store
from store.schema import StoreError
from store.verify import verify
from store.writing.writer import open_writer
from tests.support.disks import contents
from tests.support.file_systems import BLIND, NO_LOCKS, REFUSED, refuse_chmod, refuse_folder_sync, replace_locks
from tests.support.stores import build_small_store, small_blocks, small_manifest, small_table


@pytest.mark.parametrize("number", [BLIND, *NO_LOCKS])
def test_a_store_is_built_without_locks(
    tmp_path: Path, small_store: Store, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_locks(monkeypatch, number)
    path = build_small_store(tmp_path / "s.zarr").path
    assert contents(path) == contents(small_store.path)
    assert [file.name for file in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize("number", [BLIND, *NO_LOCKS])
def test_a_second_build_is_refused_without_locks_and_leaves_no_journal(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_locks(monkeypatch, number)
    path, manifest = tmp_path / "s.zarr", small_manifest()
    with open_writer(path, manifest, small_table()):
        before = contents(tmp_path)
        with pytest.raises(StoreError, match=r"s\.zarr is being written by another process; .*: pid \d+ on "):
            build_small_store(path)
        assert contents(tmp_path) == before
    journal = tmp_path / f"new.zarr{JOURNAL}"
    refused = pytest.raises(StoreError, match="is being written by another process")
    with refused, Folder(journal).lock("lock", "new.zarr"), Folder(journal).lock("lock", "new.zarr"):
        pass
    assert not journal.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_lock_that_fails_otherwise_is_an_error_and_leaves_nothing(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_locks(monkeypatch, number)
    with pytest.raises(StoreError, match=r"cannot write .*lock: .*; check the disk"):
        build_small_store(tmp_path / "s.zarr")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("number", [*REFUSED, errno.EBADF, errno.EACCES, errno.ENOSYS, errno.EPERM])
def test_a_folder_that_cannot_be_synced_is_no_error(
    tmp_path: Path, small_store: Store, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_folder_sync(monkeypatch, number)
    path = build_small_store(tmp_path / "s.zarr").path
    assert contents(path) == contents(small_store.path)
    write_whole(tmp_path / "record", b"1")
    assert (tmp_path / "record").read_bytes() == b"1"


def test_a_folder_that_cannot_be_opened_is_not_synced_and_a_failing_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refusing(path: Path, flags: int) -> int:
        if Path(path).is_dir():
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        sync(tmp_path)
    refuse_folder_sync(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        sync(tmp_path)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS, errno.EACCES])
def test_a_store_whose_permissions_cannot_be_changed_is_good(
    tmp_path: Path, small_store: Store, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse_chmod(monkeypatch, number)
    store = build_small_store(tmp_path / "s.zarr")
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("s.zarr is complete and good, but its files stay writable") == 1
    assert contents(store.path) == contents(small_store.path)
    assert verify(store.path).intact
    assert [file.name for file in tmp_path.iterdir()] == ["s.zarr"]


def test_what_nfs_keeps_of_open_files_is_no_part_of_a_store(copied: Path) -> None:
    for folder in (copied, copied / "train/x1/he"):
        (folder / ".nfs000000000123").write_bytes(b"removed, and open")
    assert verify(copied).intact


def test_a_journal_that_nfs_left_empty_is_removed_with_the_lock(tmp_path: Path) -> None:
    """Its lock was removed while it was open: the folder could only be removed afterwards."""
    journal = Folder(tmp_path / "s.zarr.journal")
    with journal.lock("lock", "s.zarr"):
        pass
    assert contents(tmp_path) == {}
    with journal.lock("lock", "s.zarr"), locked(tmp_path / "other", "o"):
        (tmp_path / "s.zarr.journal/begun").write_bytes(b"")
    assert [*contents(tmp_path)] == ["s.zarr.journal/", "s.zarr.journal/begun"]


def test_files_of_tomorrow_are_read_and_continued(tmp_path: Path, small_store: Store) -> None:
    """The clock of a file server is a day ahead, or years behind."""
    path, manifest = tmp_path / "s.zarr", small_manifest()
    with open_writer(path, manifest, small_table()) as writer:
        for unit in writer.pending()[:2]:
            writer.write(unit, small_blocks(manifest, unit))
    for number, file in enumerate(tmp_path.rglob("*")):
        os.utime(file, (4e9, 4e9) if number % 2 else (1, 1))
    assert contents(build_small_store(path).path) == contents(small_store.path)
