"""Files on a local disk: atomic writes, digests, locks, JSON records; errors of the disk say what to do.

JSON has finite numbers only: in records NaN is `null`, infinity `"inf"`. A record has the sha256 of what it holds,
which every reader compares; those of earlier versions have none.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from glob import escape
from math import inf, isnan, nan
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from store.schema import MagstainError, RunError, StoreError
from store.settings import validate
from store.untrusted.documents import DocumentError, parse_object, read_document

T = TypeVar("T")

DIGEST = "sha256"  # the key of a record's own digest
RENAMED = {"draws": "pairs_seen"}  # keys in records of earlier versions
LONG = 200  # bytes of a name to which not much can be added
SWEPT = 5  # times that a file is written, if other machines remove it meanwhile
PARTIAL = ".partial"  # the ending of a file's name until it is complete; zarr uses the same one

UNSUPPORTED = {
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EBADF,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
}  # a file system without an operation, or for this user

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again, or write elsewhere",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again, or write elsewhere",
    errno.EROFS: "the disk is read-only: write elsewhere",
    errno.EACCES: "there is no permission to write there: change it, or write elsewhere",
    errno.EPERM: "there is no permission to write there: change it, or write elsewhere",
    errno.ENOTDIR: "a part of the path is a file, not a folder: write elsewhere",
    errno.EISDIR: "a folder is in the place of a file: remove it and run the same command again",
    errno.ENOTEMPTY: "a folder is in the place of a file: remove it and run the same command again",
    errno.EEXIST: "a file is in the place of a folder: remove it and run the same command again",
    errno.EBUSY: "a program has it open: end it and run the same command again, or write elsewhere",
    errno.ETXTBSY: "a program has it open: end it and run the same command again, or write elsewhere",
    errno.ENAMETOOLONG: "the name is too long for this disk: shorten it",
}


@contextmanager
def disk_errors(path: object) -> Iterator[None]:
    """Turn an OSError while writing at `path` (a path or a location) into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # of object storage, reading or writing: the message already says what to do
            raise StoreError(f"{path}: {error}") from error
        remedy = _REMEDIES.get(error.errno, "check the disk, then run the same command again")
        raise StoreError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically: under another name, synced, renamed. An interruption leaves the old file or the new.

    What killed processes left of their attempts to write the same file is removed; a machine that does not see the lock
    of another removes what that one is writing, which is then written again.
    """
    name = path.name if len(os.fsencode(path.name)) < LONG else digest_bytes(os.fsencode(path.name))[:16]
    partial = path.with_name(f"{name}.{os.getpid()}{PARTIAL}")  # of two processes each has its own
    try:
        for tries_left in reversed(range(SWEPT)):
            with _open_locked(partial) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                with suppress(FileNotFoundError) if tries_left else nullcontext():
                    partial.replace(path)
                    break
        _sweep(path.with_name(name))
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def _open_locked(partial: Path) -> BinaryIO:
    """A new file under a lock, which says that its process lives, on disks that have locks."""
    while True:
        handle = partial.open("wb")
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if is_at(handle, partial):
            return handle
        handle.close()  # it was swept before it was locked


def _sweep(path: Path) -> None:
    """Remove the partial files of `path` that no process holds."""
    for left in path.parent.glob(f"{escape(path.name)}.*{PARTIAL}"):
        with suppress(OSError), left.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def read_json(file: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file, without its sha256. RunError with the remedy if the file is missing or damaged."""
    try:
        tree = parse_object(read_document(file))
    except (OSError, DocumentError) as error:
        raise RunError(f"{file} cannot be read as JSON ({error}); {remedy}") from error
    return unsealed(tree, file, remedy)


def unsealed(tree: Mapping[str, Any], file: Path, remedy: str) -> dict[str, Any]:
    """A record without its sha256. Raises RunError with the remedy if it has another than what it holds."""
    held = {key: value for key, value in tree.items() if key != DIGEST}
    if DIGEST in tree and tree[DIGEST] != digest_tree(held):
        raise RunError(f"{file} is damaged or was edited: what it holds does not have the {DIGEST} in it; {remedy}")
    return held


def write_json(file: Path, record: Any) -> None:
    """Write a record, a dataclass, and its sha256 atomically as JSON; creates its folder. StoreError if that fails."""
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, record_bytes(record))


def record_bytes(record: Any) -> bytes:
    """A record, a dataclass, with its sha256 as JSON."""
    tree = to_json(asdict(record))
    text = json.dumps(tree | {DIGEST: digest_tree(tree)}, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def digest_tree(tree: Mapping[str, Any]) -> str:
    """The sha256 of plain values in hex, whatever the order of keys and the layout of the file that holds them."""
    return digest_bytes(json.dumps(tree, sort_keys=True, separators=(",", ":")).encode())


def to_json(value: Any) -> Any:
    """Plain values for JSON: tuples become lists, NaN becomes None, infinity `"inf"`."""
    if isinstance(value, Mapping):
        return {str(key): to_json(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(one) for one in value]
    if isinstance(value, float) and isnan(value):
        return None
    return "inf" if value == inf else value


def from_json(value: Any) -> float:
    """The inverse of `to_json` for a number."""
    return nan if value is None else float(value)  # `float` reads "inf"


def check_record(kind: type[T], tree: Mapping[str, Any], file: Path, remedy: str) -> T:
    """A JSON object as its class. Raises RunError with the remedy if a key or value does not fit."""
    try:
        return validate(kind, tree)
    except MagstainError as error:  # of the settings, or of a class that checks itself
        raise RunError(f"{file} is not what it should be ({error}); {remedy}") from error


def with_current_names(
    tree: Mapping[str, Any], unknown: Collection[str], renamed: Mapping[str, str] = RENAMED
) -> dict[str, Any]:
    """A record with current keys; a record that has a key of `renamed` is of an earlier version.

    In those "" and 0 mean unknown: under the keys `unknown` they become None.

    >>> with_current_names({"draws": 0, "store": ""}, unknown=("store",))
    {'pairs_seen': 0, 'store': None}
    """
    if not renamed.keys() & tree.keys():
        return dict(tree)
    named = {renamed.get(key, key): value for key, value in tree.items()}
    return {key: None if key in unknown and value in ("", 0) else value for key, value in named.items()}


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk; a folder as far as its file system can, its files are synced."""
    with suppress_unsupported() if path.is_dir() else nullcontext():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def suppress_unsupported() -> Iterator[None]:
    """Go on where a file system does not know an operation or does not allow it."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def sync_all(files: Iterable[Path]) -> None:
    """Wait until these files and the folders that hold them are on the disk."""
    listed = list(files)
    for path in [*listed, *sorted({file.parent for file in listed})]:
        sync(path)


def digest_bytes(*parts: bytes) -> str:
    """The sha256 of bytes, in hex, which may be in parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def digest_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> Iterator[str]:
    """Every file below `folder`, by its name relative to it, in sorted order; not what vanishes meanwhile."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    walk = os.walk(folder, onerror=refuse)
    yield from sorted((Path(place) / name).relative_to(folder).as_posix() for place, _, names in walk for name in names)


def is_at(handle: BinaryIO, file: Path) -> bool:
    """Whether the file that is open is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), file.stat())
    except FileNotFoundError:
        return False
