"""Files that are open and cannot be removed: their folder makes room, and nothing else stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from store.disk.removing import remove_file, remove_folder
from store.records.exchange import aside, exchange, settle
from store.schema import StoreError
from tests.support.disks import contents
from tests.support.file_systems import keep_open_files

OPEN = ".nfs000000000123"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file that is open, deep in it, and a link to a folder that is not its own."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/kept").write_bytes(b"kept")
    (tmp_path / "x1/fake").mkdir(parents=True)
    for name in ("a.png", "fake/b.png", f"fake/{OPEN}"):
        (tmp_path / "x1" / name).write_bytes(b"old")
    (tmp_path / "x1/link").symlink_to(tmp_path / "other")
    return tmp_path / "x1"


def test_a_folder_is_removed_with_links_but_not_with_what_they_show(folder: Path) -> None:
    remove_folder(folder)
    assert contents(folder.parent) == {"other/": b"", "other/kept": b"kept"}
    remove_folder(folder)
    folder.symlink_to(folder.parent / "other")
    remove_folder(folder)
    assert contents(folder.parent) == {"other/": b"", "other/kept": b"kept"}


def test_what_is_open_makes_room_and_is_removed_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        keep_open_files(patch)
        for _ in range(2):
            remove_folder(folder)
            assert not folder.exists()
        (held,) = folder.parent.glob("x1.held-*")
        assert [*contents(held)] == ["fake/", f"fake/{OPEN}"]
        said = " ".join(capsys.readouterr().err.split())
        assert said.count(f"{OPEN}, open in a program that this one cannot see, perhaps on another machine,") == 1
    remove_folder(folder)
    assert contents(folder.parent) == {"other/": b"", "other/kept": b"kept"}


def test_who_has_it_open_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_open_files(monkeypatch)
    with (folder / "fake" / OPEN).open():
        remove_folder(folder)
    assert f"(pid {os.getpid()})" in capsys.readouterr().err


def test_an_exchange_succeeds_while_the_old_folder_is_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one is whole until the new one is in its place, and each later exchange works too."""
    keep_open_files(monkeypatch)
    for number in range(3):
        new = folder.with_name("new")
        new.mkdir()
        (new / OPEN).write_bytes(b"%d" % number)
        exchange(new, folder)
        assert contents(folder) == {OPEN: b"%d" % number}
        assert aside(folder).exists()
        settle(folder)
        assert not aside(folder).exists()
    monkeypatch.undo()
    settle(folder)
    assert sorted(file.name for file in folder.parent.iterdir()) == ["other", "x1"]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ETXTBSY])
def test_a_single_file_that_is_open_stays_and_is_named(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "00000010-ab.pt"
    file.write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _failing(number))
        remove_file(file)
    assert "00000010-ab.pt, open in" in capsys.readouterr().err
    remove_file(file)
    remove_file(file)
    assert contents(tmp_path) == {}


def test_other_errors_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "unlink", _failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        remove_folder(folder)
    aside(folder).mkdir()
    (aside(folder) / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"cannot write .*x1: Input/output error"):
        settle(folder)


def _failing(number: int) -> object:
    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return unlink
