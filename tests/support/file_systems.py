"""File systems that lack something, as a process sees them: its calls are replaced."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.disk import marks

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
BLIND = 0  # locks that hold nobody out
REFUSED = (errno.EINVAL, errno.EOPNOTSUPP)
PATCHED = """
import fcntl, os
def flock(*_):
    if {number}: raise OSError({number}, os.strerror({number}))
fcntl.flock = flock
"""  # the same as the start of a program


def replace_locks(monkeypatch: pytest.MonkeyPatch, number: int | None) -> None:
    """Locks that fail with this errno, `BLIND` ones, or those of the machine (None); they are named anew."""

    def flock(*_: object) -> None:
        if number:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(marks, "_SAID", set())
    if number is not None:
        monkeypatch.setattr(fcntl, "flock", flock)


def refuse_folder_sync(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Folders that cannot be synced."""

    def fsync(handle: Any) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)


def keep_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What NFS does with a file that a program has open: `.nfs…` cannot be removed, nor a folder that holds one."""

    def busy(path: Any) -> OSError:
        return OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))

    def removing(remove: Callable[..., None]) -> Callable[..., None]:
        def checked(path: Any, *words: Any, **named: Any) -> None:
            if Path(path).name.startswith(".nfs"):
                raise busy(path)
            remove(path, *words, **named)

        return checked

    def rmdir(path: Any, *words: Any, **named: Any) -> None:
        try:
            removed(path, *words, **named)
        except OSError as error:
            raise busy(path) if error.errno == errno.ENOTEMPTY else error from error

    removed = os.rmdir
    monkeypatch.setattr(os, "unlink", removing(os.unlink))
    monkeypatch.setattr(os, "remove", removing(os.remove))
    monkeypatch.setattr(os, "rmdir", rmdir)


def refuse_chmod(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Permissions that cannot be changed."""

    def chmod(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "chmod", chmod)
