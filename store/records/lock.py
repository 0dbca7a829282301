"""One writer at a time: the lock of a set of predictions, or of a folder of tables."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from store.files import disk_errors, is_at
from store.run_files import PredictionFolder
from store.schema import StoreError

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)  # where nobody writes, nobody needs a lock


@contextmanager
def held(place: PredictionFolder, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a set of predictions, alone to write it or `shared` to read it; StoreError if it is in use.

    Without a folder in which the set could be there is nothing to lock.
    """
    if not place.path.parent.is_dir():
        yield
        return
    with held_file(place.lock, f"the set of predictions {place.path}", shared=shared):
        yield


@contextmanager
def all_held(places: Iterable[PredictionFolder]) -> Iterator[None]:
    """Hold the locks of several sets of predictions, to read them."""
    with ExitStack() as locks:
        for place in dict.fromkeys(places):
            locks.enter_context(held(place, shared=True))
        yield


@contextmanager
def held_file(file: Path, what: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock, whose file its last holder removes; StoreError, which names `what`, if another process holds it."""
    try:
        handle = _take(file, what, shared=shared)
    except OSError as error:
        if not (shared and error.errno in UNWRITABLE):
            with disk_errors(file):
                raise
        yield
        return
    try:
        yield
    finally:
        with handle, suppress(OSError):  # another process still reads, or the disk is full
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(handle, file):
                file.unlink()


def _take(file: Path, what: str, *, shared: bool) -> BinaryIO:
    while True:
        handle = file.open("ab")
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            if isinstance(error, BlockingIOError):
                raise StoreError(f"{what} is being used by another process; wait for it or stop it") from None
            raise
        if is_at(handle, file):
            return handle
        handle.close()  # its last holder has removed it since it was opened
