"""Files on a local disk: written whole or not at all, digested, locked; a refusal becomes an error that helps.

JSON knows finite numbers only: NaN is `null` in our records, infinity `"inf"`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from math import inf, isnan, nan
from pathlib import Path
from typing import Any, BinaryIO

from store.schema import RunError, StoreError

PARTIAL = ".partial"  # what a file is called until it is whole; zarr uses the same ending

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again, or write elsewhere",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again, or write elsewhere",
    errno.EROFS: "the disk is read-only: write elsewhere",
    errno.EACCES: "there is no permission to write there: change it, or write elsewhere",
    errno.EPERM: "there is no permission to write there: change it, or write elsewhere",
    errno.ENOTDIR: "a part of the path is a file, not a folder: write elsewhere",
    errno.ENAMETOOLONG: "the name is too long for this disk: shorten it",
}


@contextmanager
def disk_errors(path: object) -> Iterator[None]:
    """Turn a refusal to write below `path` (a path or a location) into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # of object storage, reading or writing: it says itself what to do
            raise StoreError(f"{path}: {error}") from error
        remedy = _REMEDIES.get(error.errno, "check the disk, then run the same command again")
        raise StoreError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place, sync it and rename it: after a cut there is the old file or the new one."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def read_json(file: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file. Raises RunError with the remedy if there is none."""
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read as JSON ({error}); {remedy}") from error
    if not isinstance(tree, dict):
        raise RunError(f"{file} holds a {type(tree).__name__}, not an object; {remedy}")
    return tree


def write_json(file: Path, record: Any) -> None:
    """Write a record, a dataclass, whole or not at all; makes its folder."""
    text = json.dumps(to_json(asdict(record)), indent=1, ensure_ascii=False, allow_nan=False)
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, (text + "\n").encode())


def to_json(value: Any) -> Any:
    """Plain values for JSON."""
    if isinstance(value, Mapping):
        return {str(key): to_json(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(one) for one in value]
    if isinstance(value, float) and isnan(value):
        return None
    return "inf" if value == inf else value


def from_json(value: Any) -> float:
    """A number as it was before `to_json`."""
    return nan if value is None else float(value)  # `float` knows "inf"


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(files: Iterable[Path]) -> None:
    """Wait until these files and the folders that hold them are on the disk."""
    whole = list(files)
    for place in [*whole, *sorted({file.parent for file in whole})]:
        sync(place)


def digest_bytes(data: bytes) -> str:
    """The sha256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> Iterator[str]:
    """Every file below `folder`, by its name relative to it, in sorted order."""
    yield from sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())


@contextmanager
def locked(file: Path, what: str) -> Iterator[None]:
    """Hold the only lock on `file`; StoreError if another process holds it. A killed holder lets go by itself."""
    with disk_errors(file):
        handle = file.open("ab")
    with handle:
        if not _lock(handle, file):
            raise StoreError(f"{what} is being written by another process; wait for it or stop it")
        if not (file.exists() and os.path.samestat(os.fstat(handle.fileno()), file.stat())):
            raise StoreError(f"{what} was just finished or given up by another process; run the same command again")
        yield


def _lock(handle: BinaryIO, file: Path) -> bool:
    with disk_errors(file):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
