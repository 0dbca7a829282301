"""Locks where a file system has them, has none, or has such that hold nobody out."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from store.disk import locks, marks
from store.disk.locks import awaited, briefly_locked, locked, shared
from store.disk.owner import Owner, decode, encode, this_process
from store.files import write_whole
from store.schema import StoreError
from tests.support.disks import contents, read_only
from tests.support.file_systems import BLIND, NO_LOCKS, PATCHED, replace_locks
from tests.support.places import ROOT

IN_USE = "the run r is being written by another process; wait for it or stop it: pid {pid} on {host}, since 20"
HOLD = """
import sys
from pathlib import Path
{patch}
from store.disk.locks import locked, shared
with ({how})(Path(sys.argv[1]), "the run r"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=[None, BLIND, *NO_LOCKS])
def flocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """Each kind of file system: the errno of a lock, `BLIND`, or None where locks work."""
    replace_locks(monkeypatch, request.param)
    number: int | None = request.param
    return number


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("BEAT", 0.05), ("SILENCE", 0.4), ("LOOK", 0.02)):
        monkeypatch.setattr(marks, name, seconds)
    monkeypatch.setattr(locks, "PAUSE", 0.05)


@contextmanager
def another(file: Path, number: int | None, how: str = "locked") -> Iterator[subprocess.Popen[str]]:
    """A process that holds a lock until it is killed, or its stdin ends."""
    patch = "" if number is None else PATCHED.format(number=number)
    words = [sys.executable, "-c", HOLD.format(patch=patch, how=how), str(file)]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=nowhere, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def take_briefly(file: Path) -> None:
    with briefly_locked(file, "the run r"):
        assert file.exists()


def take(file: Path) -> None:
    with locked(file, "the run r"):
        assert file.exists()


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said, in one line."""
    return " ".join(capsys.readouterr().err.split())


def ended() -> Owner:
    """A process of this machine that has ended, but is not waited for."""
    process = subprocess.Popen(["sleep", "0"])
    process.returncode = 0  # nobody waits for it: it stays a zombie
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    return replace(this_process(), pid=process.pid, began="17")


ELSEWHERE = replace(this_process(), host="node7", kernel="of another machine", pid=4711)
DEAD: dict[str, Callable[[], bytes]] = {
    "a process that ended": lambda: encode(replace(this_process(), pid=2**22 + 1)),
    "a zombie": lambda: encode(ended()),
    "a later process of the same number": lambda: encode(replace(this_process(), pid=os.getppid(), began="1")),
    "this process, which does not hold it": lambda: encode(this_process()),
    "a lock of an earlier version": lambda: b"",
    "damaged bytes": lambda: b'{"host": \xff',
    "another thing": lambda: b"[" * 5000,
}


@pytest.mark.parametrize("kind", DEAD)
def test_the_lock_of_a_dead_process_is_taken_at_once(tmp_path: Path, flocks: int | None, kind: str) -> None:
    file = tmp_path / "lock"
    file.write_bytes(DEAD[kind]())
    take(file)
    assert contents(tmp_path) == {}


def test_a_living_process_is_named_and_its_lock_is_free_when_it_is_killed(tmp_path: Path, flocks: int | None) -> None:
    file = tmp_path / "lock"
    with another(file, flocks) as process:
        owner = decode(file.read_bytes())
        assert owner is not None
        with pytest.raises(StoreError) as refused:
            take(file)
        assert str(refused.value).startswith(IN_USE.format(pid=process.pid, host=owner.host))
        with pytest.raises(StoreError, match="is being used by another process"), shared(file, "the set s"):
            pass
        assert [*contents(tmp_path)] == ["lock"]
        process.kill()
        process.wait()
        take(file)
    assert contents(tmp_path) == {}


def test_a_released_lock_leaves_nothing(tmp_path: Path, flocks: int | None) -> None:
    with another(tmp_path / "lock", flocks) as process:
        process.communicate("", timeout=20)
    assert contents(tmp_path) == {}
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock", "r"):
        raise ZeroDivisionError
    assert contents(tmp_path) == {}


def test_many_read_at_once_and_nobody_writes_meanwhile(tmp_path: Path, flocks: int | None) -> None:
    file = tmp_path / "x1.lock"
    with another(file, flocks, "shared") as process, shared(file, "s"):
        with pytest.raises(StoreError, match="is being used by another process"):
            take(file)
        process.kill()
        process.wait()
        assert len(contents(tmp_path)) == 2
    take(file)
    assert contents(tmp_path) == {}


def test_readers_need_no_lock_where_nobody_writes(tmp_path: Path, flocks: int | None) -> None:
    with read_only(tmp_path), shared(tmp_path / "lock", "s"):
        pass


@contextmanager
def sign_of_life(file: Path) -> Iterator[None]:
    """Touch a file as its living holder does, by a clock that is an hour behind."""
    over = threading.Event()

    def touch() -> None:
        moment = time.time() - 3600
        while not over.wait(0.05):
            moment += 0.05
            os.utime(file, (moment, moment))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(("name", "hours"), [("lock", 9), ("lock.abcd.reader", -9)])
def test_a_process_of_another_machine_is_watched(
    tmp_path: Path, flocks: int | None, name: str, hours: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clocks of machines and file servers are hours apart, which changes nothing."""
    file = tmp_path / name
    line = encode(ELSEWHERE)
    file.write_bytes(line)
    os.utime(file, (time.time() + 3600 * hours,) * 2)
    refused = pytest.raises(StoreError, match=r"pid 4711 on node7, since .*; if that job is surely dead, remove")
    with sign_of_life(file), refused:
        take(tmp_path / "lock")
    assert contents(tmp_path) == {name: line}
    take(tmp_path / "lock")
    assert "names pid 4711 on node7" in said(capsys)
    assert contents(tmp_path) == {}


def test_a_process_of_another_container_is_watched_unless_its_lock_would_be_seen(
    tmp_path: Path, flocks: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers of processes count in their container; a lock of the same kernel counts everywhere, where it works."""
    (tmp_path / "lock").write_bytes(encode(replace(this_process(), namespace="pid:[1]", pid=1)))
    take(tmp_path / "lock")
    assert ("sign of life" in said(capsys)) == (flocks not in (None, BLIND))


@pytest.mark.parametrize("number", [*NO_LOCKS, errno.EINVAL])
def test_a_file_system_without_locks_is_named_once(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_locks(monkeypatch, number)
    for name in ("a", "b"):
        take(tmp_path / name)
    with shared(tmp_path / "c", "s"):
        pass
    assert said(capsys).count("has no locks, so files that name their process keep other commands out") == 1


@pytest.mark.parametrize("line", [b"", encode(replace(this_process(), pid=2**22 + 1))])
@pytest.mark.parametrize("links", [True, False])
def test_of_many_takers_one_has_the_lock(
    tmp_path: Path, line: bytes, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_locks(monkeypatch, errno.ENOSYS)
    if not links:
        monkeypatch.setattr(os, "link", no_link)
    file, together, all_tried, got = tmp_path / "lock", threading.Barrier(8), threading.Barrier(8), list[int]()

    def try_it() -> None:
        with ExitStack() as stack:
            together.wait()
            try:
                stack.enter_context(locked(file, "r"))
                got.append(1)
            except StoreError:
                pass
            all_tried.wait()

    for turn in range(5):
        if line or turn % 2:
            file.write_bytes(line)
        got.clear()
        threads = [threading.Thread(target=try_it) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) <= 1
        take(file)  # of the refused nothing is left that is in the way
        assert contents(tmp_path) == {}


def no_link(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_without_hard_links_there_are_locks_too(
    tmp_path: Path, flocks: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_link)
    file = tmp_path / "lock"
    with another(file, flocks), pytest.raises(StoreError, match="is being written by another process"):
        take(file)
    take(file)
    assert contents(tmp_path) == {}


def test_an_answer_that_nfs_lost_is_no_refusal(
    tmp_path: Path, flocks: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def linked(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", linked)
    take(tmp_path / "lock")
    assert contents(tmp_path) == {}


def test_an_earlier_version_that_holds_a_lock_is_heard(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"r is being written by another process; wait for it or stop it$"):
            take(tmp_path / "lock")
    take(tmp_path / "lock")


def test_one_whose_lock_was_taken_while_it_was_suspended_says_so(
    tmp_path: Path, flocks: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lock"
    with locked(file, "the run r"):
        (tmp_path / "new").write_bytes(b"of another")
        (tmp_path / "new").replace(file)
        time.sleep(0.3)
    assert "another process has taken the run r, which this one held: stop one of both" in said(capsys)
    assert contents(tmp_path) == {"lock": b"of another"}


def test_who_waits_is_told_and_gets_the_lock(tmp_path: Path, flocks: int | None) -> None:
    told = list[str]()
    with another(tmp_path / "lock", flocks) as process:

        def wait() -> None:
            told.append("waiting")
            process.kill()
            process.wait()

        with awaited(tmp_path / "lock", "f", wait):
            assert told == ["waiting"]


def test_a_full_disk_has_locks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(marks, "encode", full)
    with locked(tmp_path / "lock", "r"), pytest.raises(StoreError, match="another process"):
        take(tmp_path / "lock")
    assert contents(tmp_path) == {}


def test_a_folder_in_the_place_of_a_lock_is_named(tmp_path: Path, flocks: int | None) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(StoreError, match=r"lock: Is a directory; a folder is in the place of a file: remove it"):
        take(tmp_path / "lock")
    assert [*contents(tmp_path)] == ["lock/"]


def test_what_another_machine_swept_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks hold nobody out, another writer of the same file takes this one's for that of a dead process."""
    replace_locks(monkeypatch, BLIND)
    swept, place = list[str](), Path.replace

    def replaced(path: Path, target: Path) -> Path:
        if len(swept) < 2:
            path.unlink()
            swept.append(path.name)
        return place(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    write_whole(tmp_path / "features.bin", b"of both")
    assert contents(tmp_path) == {"features.bin": b"of both"}


def test_locks_are_made_in_one_place() -> None:
    """What calls flock itself has neither a name in its lock nor a way without locks."""
    users = {
        file.relative_to(ROOT).as_posix()
        for package in ("store", "prep", "train", "evaluate")
        for file in (ROOT / package).rglob("*.py")
        if "import fcntl" in file.read_text(encoding="utf-8")
    }
    assert users == {"store/disk/flocks.py", "store/files.py", "store/doctor/trial.py"}  # a trial of another process


def test_a_brief_lock_and_a_usual_one_keep_each_other_out(tmp_path: Path, flocks: int | None) -> None:
    with briefly_locked(tmp_path / "r.lock", "the run r"):
        for again in (take, take_briefly):
            with pytest.raises(StoreError, match="the run r is being written by another process"):
                again(tmp_path / "r.lock")
    with another(tmp_path / "r.lock", flocks) as process:
        with pytest.raises(StoreError, match=f"the run r is being written by another process.*pid {process.pid}"):
            take_briefly(tmp_path / "r.lock")
        process.kill()
        process.wait()
        take_briefly(tmp_path / "r.lock")  # that of a dead process is taken over
    assert contents(tmp_path) == {}


def test_a_brief_lock_does_not_look_at_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("there may be thousands of files")

    monkeypatch.setattr(Path, "glob", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    take_briefly(tmp_path / "r.lock")
