"""From a spool to its file: killed at any call, on a full disk, where something is already; never half a file."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from store.files import sync_all, write_json
from store.schema import StoreError
from store.slides.writing import finish as finish_module
from store.slides.writing import flat, layer, ome_zarr
from store.slides.writing.finish import finish, is_made, tiles_to_do
from store.slides.writing.plan import OutputKind, plan_spool
from store.slides.writing.spool import Spool
from tests.support.disks import fill, mounted
from tests.support.spools import MPP, drawn, files_below, put_all, written

SIZE = (70, 90)
PICTURE = drawn(*SIZE)
kinds = pytest.mark.parametrize("kind", list(OutputKind))


class Killed(BaseException):
    """What stops a process at once, here in its own code."""


CALLS = (  # every call that makes, writes, renames or removes something
    (os, "mkdir"),
    (os, "fsync"),
    (os, "replace"),
    (os, "rename"),
    (os, "unlink"),
    (os, "rmdir"),
    (Path, "open"),
    (layer, "pack"),
    (finish_module, "digest_output"),
    (flat, "write_png"),
    (layer.Layer, "packed"),
    (ome_zarr, "_write_document"),
)
TAKING = tuple(call for call in CALLS if call[1] in {"mkdir", "fsync", "open", "write_png", "packed"})


def failing(
    monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException, calls: tuple[tuple[object, str], ...] = CALLS
) -> None:
    """Let all calls fail from number `at` on; of files that are opened only those that are written count."""
    counter = iter(range(10**6))

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def checked(*words: object, **named: object) -> object:
            reads = call is opens and "w" not in str((*words, "r")[1])
            if not reads and next(counter) >= at:
                raise error
            return call(*words, **named)

        return checked

    opens = Path.open
    for owner, name in calls:
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


def _die(*words: object, **named: object) -> None:
    raise Killed


def _fail_from(monkeypatch: pytest.MonkeyPatch, at: int, made: object) -> None:
    failing(monkeypatch, at, Killed())


def attempt(*words: object, **named: object) -> str:
    """The error of `written`, or nothing."""
    try:
        written(*words, **named)  # type: ignore[arg-type]  # passed on
    except StoreError as error:
        return str(error)
    return ""


@kinds
def test_a_kill_at_any_call_leaves_nothing_or_the_whole_file_and_the_same_call_goes_on(
    tmp_path: Path, kind: OutputKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written(tmp_path / "a", PICTURE, kind)
    whole = files_below(tmp_path / "a")
    outcomes, at, ended = list[str](), 0, False
    while not ended:
        out = tmp_path / "again" / "a"
        out.parent.mkdir()
        with monkeypatch.context() as patch:
            failing(patch, at, Killed())
            try:
                written(out, PICTURE, kind)
                ended = True
            except Killed:
                pass
        if out.exists():
            assert files_below(out) == whole, at
        outcomes.append("whole" if out.exists() else "nothing")
        spool = out.with_name("a.partial")
        assert ended or out.exists() or spool.exists() or at < 3
        assert written(out, PICTURE, kind, overwrite=not spool.exists()) == made
        assert files_below(out) == whole
        assert not spool.exists()
        shutil.rmtree(out.parent)
        at += 3 if kind is OutputKind.OME_ZARR and at > 20 else 1  # it makes many folders
    assert outcomes == sorted(outcomes)
    assert at > 20
    assert outcomes.count("whole") > 3  # calls that remove the spool


def test_what_the_spool_made_is_known_until_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its units may be gone then: nobody makes them again."""
    out, at, pending = tmp_path / "a", 0, set[bool]()
    plan = plan_spool(OutputKind.PNG, *SIZE, 64, "drawn")
    removed = False
    while not removed:
        spool = Spool.open(tmp_path / "a.partial", plan)
        put_all(spool, PICTURE)
        with monkeypatch.context() as patch, suppress(Killed):
            finish(spool, out, OutputKind.PNG, MPP, "", told=partial(_fail_from, patch, at))
        removed = not spool.folder.exists()
        assert removed or is_made(spool, out)
        pending.add(bool(Spool(spool.folder, plan).pending()))
        assert not is_made(Spool.open(tmp_path / "b.partial", plan), out)
        out.unlink()
        assert not is_made(spool, out)
        at += 1
    assert at > 3
    assert pending == {True, False}


@kinds
def test_a_disk_that_is_full_at_any_call_is_one_line_and_the_same_call_goes_on(
    tmp_path: Path, kind: OutputKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "a", PICTURE, kind)
    whole, at, out = files_below(tmp_path / "a"), 0, tmp_path / "again" / "a"
    out.parent.mkdir()
    while not out.exists():
        with monkeypatch.context() as patch:
            failing(patch, at, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), TAKING)
            message = attempt(out, PICTURE, kind)
        assert not message or "disk is full: free some space and run the same command again" in message
        assert "\n" not in message
        assert not (out.parent / "a.partial" / "draft").exists() or (out.parent / "a.partial" / "draft.json").exists()
        at += 1
    assert at > 3
    assert not message or not attempt(out, PICTURE, kind)
    assert files_below(out) == whole


@pytest.mark.parametrize("kind", [OutputKind.PNG, OutputKind.OME_TIFF, OutputKind.OME_ZARR])
def test_a_small_disk(tmp_path: Path, kind: OutputKind) -> None:
    """A real one, which is full before the first unit, then while a unit, a level and the file are written."""
    picture = drawn(300, 517)
    written(tmp_path / "a", picture, kind)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=3m", "tmpfs") as disk:
        out, left, message = disk / "a", 0, "disk is full"
        while "disk is full" in message:
            assert not out.exists()
            fill(disk / "filler")
            os.truncate(disk / "filler", max(0, (disk / "filler").stat().st_size - left))
            message, left = attempt(out, picture, kind), left + 100_000
        assert not message
        assert left > 300_000
        assert files_below(out) == files_below(tmp_path / "a")


@kinds
def test_what_is_there_already_is_refused_unless_it_may_be_replaced(tmp_path: Path, kind: OutputKind) -> None:
    out, spool = tmp_path / "a", tmp_path / "a.partial"
    out.write_text("mine")
    with pytest.raises(StoreError, match=r"a already exists; choose another name, or allow to overwrite it"):
        written(out, PICTURE, kind)
    assert out.read_text() == "mine"
    assert sorted(path.name for path in spool.iterdir()) == ["level-0", "plan.json"]
    written(out, PICTURE, kind, overwrite=True)
    whole = files_below(out)
    assert not spool.exists()
    with pytest.raises(StoreError, match="already exists"):
        written(out, PICTURE, kind)
    written(out, PICTURE, kind, overwrite=True)
    assert files_below(out) == whole


@kinds
def test_only_a_folder_that_is_a_zarr_is_replaced(tmp_path: Path, kind: OutputKind) -> None:
    out = tmp_path / "a"
    out.mkdir()
    (out / "thesis.txt").touch()
    with pytest.raises(StoreError, match="a is a folder, and no Zarr: it is not overwritten"):
        written(out, PICTURE, kind, overwrite=True)
    assert (out / "thesis.txt").exists()
    (out / "zarr.json").touch()
    written(out, PICTURE, kind, overwrite=True)
    assert "thesis.txt" not in files_below(out)


def test_a_file_that_another_wrote_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """Between two starts of a command that was killed before it gave the file its name."""
    out = tmp_path / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish_module, "_publish", _die)
        with pytest.raises(Killed):
            written(out, PICTURE, OutputKind.PNG)
    out.write_text("mine")
    with pytest.raises(StoreError, match="already exists"):
        written(out, PICTURE, OutputKind.PNG)
    assert out.read_text() == "mine"
    out.unlink()
    written(out, PICTURE, OutputKind.PNG)


def test_a_half_written_draft_is_never_taken_for_the_one_before_it(tmp_path: Path) -> None:
    out = tmp_path / "a"
    killed = pytest.raises(Killed)
    with pytest.MonkeyPatch.context() as patch, killed:
        patch.setattr(finish_module, "_publish", _die)
        written(out, PICTURE, OutputKind.TIFF, mpp=None)
    with pytest.MonkeyPatch.context() as patch, killed:
        patch.setattr(flat, "deflate", _die)
        written(out, PICTURE, OutputKind.TIFF)
    made = written(out, PICTURE, OutputKind.TIFF, mpp=None)
    (tmp_path / "other").mkdir()
    assert made == written(tmp_path / "other" / "a", PICTURE, OutputKind.TIFF, mpp=None)
    assert out.read_bytes() == (tmp_path / "other" / "a").read_bytes()


@kinds
def test_the_file_is_on_the_disk_before_its_record(
    tmp_path: Path, kind: OutputKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = list[str]()

    def syncing(files: Iterable[Path]) -> None:
        listed = list(files)
        happened.extend(str(file.relative_to(tmp_path / "a.partial" / "draft")) for file in listed)
        sync_all(listed)

    def writing(file: Path, record: object) -> None:
        happened.append(file.name)
        write_json(file, record)

    monkeypatch.setattr(finish_module, "sync_all", syncing)
    monkeypatch.setattr(finish_module, "write_json", writing)
    written(tmp_path / "a", PICTURE, kind)
    assert happened == [*files_below(tmp_path / "a"), "draft.json"]


def test_an_unfinished_or_damaged_spool_has_no_file(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path / "a.partial", plan_spool(OutputKind.OME_TIFF, 100, 2000, 64, "drawn"))
    put_all(spool, drawn(100, 2000), spool.base.units[:3])
    with pytest.raises(StoreError, match="is unfinished: 1 of 4 parts are missing or damaged"):
        finish(spool, tmp_path / "a", OutputKind.OME_TIFF, MPP, "")
    put_all(spool, drawn(100, 2000))
    file = spool.folder / "level-0" / spool.base.units[1].name
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(StoreError, match="the same command makes it again"):
        finish(spool, tmp_path / "a", OutputKind.OME_TIFF, MPP, "")
    assert not (tmp_path / "a").exists()
    assert not (spool.folder / "draft").exists()


@kinds
def test_progress_ends_at_what_was_announced(tmp_path: Path, kind: OutputKind) -> None:
    spool = Spool.open(tmp_path / "a.partial", plan_spool(kind, *SIZE, 64, "drawn"))
    put_all(spool, PICTURE)
    done, told = list[int](), list[str]()
    expected = tiles_to_do(spool, kind)
    made = finish(spool, tmp_path / "a", kind, MPP, "", each=done.append, told=lambda made: told.append(made.digest))
    assert sum(done) == expected
    assert told == [made.digest]


def test_the_record_of_another_name_or_scale_is_not_taken_for_this_one(tmp_path: Path) -> None:
    out = tmp_path / "a"
    for mpp in (None, MPP):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finish_module, "_publish", _die)
            with pytest.raises(Killed):
                written(out, PICTURE, OutputKind.TIFF, mpp=mpp)
    made = written(out, PICTURE, OutputKind.TIFF, mpp=0.5)
    (tmp_path / "other").mkdir()
    assert made == written(tmp_path / "other" / "a", PICTURE, OutputKind.TIFF, mpp=0.5)
