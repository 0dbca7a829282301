"""Ordinary files alone are read: a pipe would be waited for, and a folder or a missing file has words of its own."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

from store.schema import PictureError


def check_ordinary(path: Path) -> None:
    """Raise PictureError unless this is a file with content that can be read."""
    with reading(path):
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise PictureError(f"{path}: is a folder, not a picture; name a file")
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise PictureError(f"{path}: is no ordinary file; name a picture file")
    if not found.st_size:
        raise PictureError(f"{path}: the file is empty (0 bytes); fetch or export it again")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise PictureError, which names the file and what to do, where it cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise PictureError(f"{path}: no such file; check the path, or whether a link points nowhere") from error
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror}); mend that or leave the file out") from error


def read_bytes(path: Path) -> bytes:
    """What a picture's file holds. Raises PictureError if that is nothing, or cannot be read."""
    check_ordinary(path)
    with reading(path):
        return path.read_bytes()
