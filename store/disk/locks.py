"""One writer at a time, or several readers: a lock is a file that names its holder, and is gone when it is released."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

from store.disk.marks import Found, beating, draft, judge, look, publish, put_mark, release
from store.disk.owner import Life
from store.files import PARTIAL, digest_bytes, disk_errors
from store.schema import StoreError

READER = ".reader"  # the ending of a mark of one who reads
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)  # where nobody writes, nobody needs a lock
TRIES = 5  # to make a mark that others sweep away meanwhile
PAUSE = 0.5  # s between two tries of one who waits


class InUseError(StoreError):
    """Another process holds the lock."""


@contextmanager
def locked(file: Path, what: str, verb: str = "written") -> Iterator[None]:
    """Hold the lock `file` alone; StoreError, which names `what` and the holder, if another process holds it.

    A killed process releases its lock; one of another machine, after a minute without a sign of life.
    """
    with ExitStack() as stack:
        with disk_errors(file):
            handle = _take(file, what, verb)
            stack.callback(release, handle, file)
            for mark in _beside(file, READER):
                with suppress(FileNotFoundError):
                    if (found := judge(mark)).lives:
                        raise _in_use(mark, what, "used", found)
                    mark.unlink()
            for left in _beside(file, PARTIAL):
                with suppress(OSError):
                    if look(left)[1] is Life.DEAD:
                        left.unlink()
        stack.enter_context(beating(handle, file, what))
        yield


@contextmanager
def briefly_locked(file: Path, what: str) -> Iterator[None]:
    """`locked`, for one of thousands of locks that nobody shares: few operations of the disk, no look at its folder."""
    with ExitStack() as stack:
        with disk_errors(file):
            try:
                handle = put_mark(file)
            except FileExistsError:
                handle = _take(file, what, "written")
            stack.callback(release, handle, file)
        stack.enter_context(beating(handle, file, what))
        yield


@contextmanager
def shared(file: Path, what: str) -> Iterator[None]:
    """Hold the lock `file` with others who read; StoreError if a process holds it alone.

    Where nothing can be written there is nothing to hold.
    """
    with ExitStack() as stack:
        try:
            path, handle = draft(file)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                with disk_errors(file):
                    raise
            yield
            return
        with disk_errors(file):
            mark = path.rename(path.with_suffix(READER))
            stack.callback(release, handle, mark)
            with suppress(FileNotFoundError):
                if (found := judge(file)).lives:
                    raise _in_use(file, what, "used", found)
        stack.enter_context(beating(handle, mark, what))
        yield


@contextmanager
def awaited(file: Path, what: str, wait: Callable[[], object]) -> Iterator[None]:
    """Hold the lock `file` alone; calls `wait` once before it waits for another process."""
    waited = False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(file, what))
                break
            except InUseError:
                if not waited:
                    wait()
                waited = True
                time.sleep(PAUSE)
        yield


def _take(file: Path, what: str, verb: str) -> BinaryIO:
    """Make the mark `file`, or take over that of a dead process."""
    for _ in range(TRIES):
        with suppress(FileNotFoundError), ExitStack() as own:
            path, handle = draft(file)
            own.callback(release, handle, path)
            if made := publish(path, handle, file):
                if made is handle:
                    own.pop_all()
                return made
            found = judge(file)
            if found.lives:
                raise _in_use(file, what, verb, found)
            if _take_over(file, what, verb, path, found):
                own.pop_all()
                return handle
    raise StoreError(f"{what} was just finished or abandoned by another process; run the same command again")


def _take_over(file: Path, what: str, verb: str, path: Path, found: Found) -> bool:
    """Move a draft into the place of a dead process's mark; False if that is no longer there.

    Of several takers one holds the lock on just this line, and none of them replaces another line.
    """
    with locked(file.with_name(f"{file.name}.{digest_bytes(found.line)[:8]}{PARTIAL}"), what, verb):
        if look(file)[0] != found.line:
            return False
        path.replace(file)
        return True


def _beside(file: Path, ending: str) -> list[Path]:
    """The marks of readers of a lock, or drafts."""
    return list(file.parent.glob(f"{escape(file.name)}.*{ending}"))


def _in_use(file: Path, what: str, verb: str, found: Found) -> InUseError:
    by = f": {found.owner}" if found.owner else ""
    remedy = ""
    if found.owner and not found.owner.is_of_this_kernel:
        remedy = f"; if that job is surely dead, remove {file}"
    return InUseError(f"{what} is being {verb} by another process; wait for it or stop it{by}{remedy}")
