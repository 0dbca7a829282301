"""Files that name the process that holds a lock: made at once and whole, judged by everyone who meets them.

A mark is locked with `flock` too, so that a killed holder is noticed at once where the file system has locks. Where it
has none, or where another machine does not see them, the name in the mark decides: a process of this machine is looked
up. One of another machine cannot be; a living holder touches its mark every `BEAT` seconds, so it is watched for
`SILENCE` seconds. No clock is read: those of machines and file servers differ.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from store.cli import say, wrapped
from store.disk.flocks import Flock, try_flock
from store.disk.owner import Life, Owner, decode, encode, this_process
from store.files import PARTIAL, is_at

BEAT = 10.0  # s between two signs of life
SILENCE = 60.0  # s without one after which a holder on another machine is taken for dead
LOOK = 1.0  # s between two looks for one
GRACE = 0.2  # s in which the maker of an empty mark may fill it: without hard links it has its name before its line
LONGEST = 4096  # bytes of a mark that are read
FULL = (errno.ENOSPC, errno.EDQUOT)
WITHOUT_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)

_SAID = set[int]()  # file systems without locks that were named
_MINE = set[tuple[int, int]]()  # device and inode of the marks that this process holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a mark held when it was judged: its bytes, whom they name, and whether that process lives."""

    line: bytes
    owner: Owner | None
    lives: bool


def draft(file: Path) -> tuple[Path, BinaryIO]:
    """A mark under another name beside `file`, locked and complete; on a full disk empty: then the lock alone holds."""
    path = file.with_name(f"{file.name}.{os.urandom(4).hex()}{PARTIAL}")
    return path, put_mark(path)


def put_mark(path: Path) -> BinaryIO:
    """A new file, locked, that names this process. Raises FileExistsError if there is one."""
    handle = path.open("x+b", buffering=0)
    _MINE.add(_identity(handle))
    try:
        if try_flock(handle) is Flock.NONE:
            _say_without_locks(path.parent)
        handle.write(encode(this_process()))
    except OSError as error:
        if error.errno not in FULL:
            release(handle, path)
            raise
    return handle


def publish(path: Path, handle: BinaryIO, file: Path) -> BinaryIO | None:
    """Give a draft the name `file`; returns the open mark of that name, None if there is one already."""
    try:
        os.link(path, file)
    except FileExistsError:
        if not is_at(handle, file):  # NFS: else the answer to the first request was lost
            return None
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        with suppress(FileExistsError):
            return put_mark(file)
        return None
    path.unlink(missing_ok=True)
    return handle


def release(handle: BinaryIO, file: Path) -> None:
    """Remove a mark or draft: once it is closed, or NFS would keep it under another name. Nobody doubts the living."""
    with suppress(OSError):
        own = os.fstat(handle.fileno())
        _MINE.discard(_identity(handle))
        handle.close()
        if os.path.samestat(own, file.stat()):
            file.unlink()


def look(file: Path) -> tuple[bytes, Life]:
    """What a mark holds, and what is known at once about the process that it names.

    Raises FileNotFoundError if there is none.
    """
    with file.open("rb") as handle:
        answer = try_flock(handle, shared=True)
        line = handle.read(LONGEST)
        return line, _life(decode(line), answer, mine=_identity(handle) in _MINE)


def judge(file: Path) -> Found:
    """Whom a mark names, and whether that process lives, which may take `SILENCE` seconds.

    Raises FileNotFoundError if there is none.
    """
    line, life = look(file)
    if not line and life is Life.DEAD:
        time.sleep(GRACE)
        line, life = look(file)
    owner = decode(line)
    if life is Life.UNKNOWN:
        say(wrapped(f"{file} names {owner}: waiting up to {SILENCE:.0f} s for a sign of life from there"))
    lives = life is Life.LIVING or (life is Life.UNKNOWN and _gives_sign(file))
    return Found(line=line, owner=owner, lives=lives)


def _life(owner: Owner | None, answer: Flock, *, mine: bool) -> Life:
    """Whether a mark's holder lives, given what came of a try to lock it, and whether this process holds it."""
    if answer is Flock.BUSY or mine:
        return Life.LIVING
    if owner is None or owner.is_of_this_process:
        return Life.DEAD
    if answer is Flock.TAKEN and owner.is_of_this_kernel and not owner.is_visible:
        return Life.DEAD  # of another container: the kernel would know of its lock
    return owner.life


def _identity(handle: BinaryIO) -> tuple[int, int]:
    facts = os.fstat(handle.fileno())
    return facts.st_dev, facts.st_ino


@contextmanager
def beating(handle: BinaryIO, file: Path, what: str) -> Iterator[None]:
    """Touch a mark that this process holds, now and then, from a thread that ends with the block."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            with suppress(OSError):  # an interruption of the network is no reason to stop
                os.utime(handle.fileno())
                if not is_at(handle, file) and file.exists():
                    say(f"warning: another process has taken {what}, which this one held: stop one of both")
                    return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _gives_sign(file: Path) -> bool:
    """Whether a mark is touched while it is watched. Raises FileNotFoundError if it is removed meanwhile."""
    before, end = _sign(file), time.monotonic() + SILENCE
    while time.monotonic() < end:
        time.sleep(LOOK)
        if _sign(file) != before:
            return True
    return False


def _sign(file: Path) -> tuple[int, int]:
    with file.open("rb") as handle:  # opening asks the server, where a plain stat may be answered from a cache
        facts = os.fstat(handle.fileno())
    return facts.st_ino, facts.st_mtime_ns


def _say_without_locks(folder: Path) -> None:
    """Once for a file system, and a process."""
    if (device := folder.stat().st_dev) in _SAID:
        return
    _SAID.add(device)
    say(
        wrapped(
            f"note: the file system of {folder} has no locks, so files that name their process keep other commands out "
            "instead. This holds less: a process that is suspended for a minute is taken for dead by other machines, "
            f"and after a crash another machine waits {SILENCE:.0f} s"
        )
    )
