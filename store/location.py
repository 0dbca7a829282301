"""Where a store stands: a folder on a local disk, or a prefix in a bucket of object storage (`s3://bucket/name.zarr`).

A location knows files by their names relative to it. Writing is whole or not at all and lasts when the call returns;
what cannot be done raises OSError (FileNotFoundError for a missing file), which `disk_errors` turns into an error that
helps. Locations can be pickled and hold nothing open.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from zarr.storage import LocalStore

from store.files import PARTIAL, digest_file, files_of, sync
from store.schema import StoreError

S3 = "s3://"
WRITABLE = 0o222  # write permission of everybody


class Location(Protocol):
    """A folder or a prefix; `str()` of it is the address that a person types."""

    @property
    def name(self) -> str:
        """The last part of the address."""

    def beside(self, suffix: str) -> Location:
        """The location whose address is this one's and `suffix`."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def names(self) -> Iterator[str]:
        """Every file, in sorted order."""

    def sizes(self) -> dict[str, int]:
        """Every file with its length in bytes, in sorted order."""

    def read(self, name: str) -> bytes:
        """A whole file."""

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes of a file from `offset`, fewer at its end."""

    def read_end(self, name: str, length: int) -> bytes:
        """The last `length` bytes of a file, fewer if it is shorter."""

    def digest(self, name: str) -> str:
        """The sha256 of a file, in hex."""

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file, in place of an older one; another reader sees the old one or the new one."""

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""

    def remove_all(self) -> None:
        """Remove everything, as far as that is possible."""

    def zarr_store(self) -> Any:
        """The location as a store that zarr reads."""


def locate(address: Location | Path | str) -> Location:
    """The location at an address: `s3://bucket/name.zarr`, else a folder. Raises StoreError for what is neither."""
    if isinstance(address, Path):
        text = str(address)
        if text.startswith(S3.rstrip("/")) and not address.exists():
            raise StoreError(f"{text}: an address in object storage is a string, {S3}{text.removeprefix('s3:/')}")
        return Folder(address)
    if not isinstance(address, str):
        return address
    if address.startswith(S3):
        from store.bucket import Bucket

        return Bucket(address)
    if "://" in address:
        raise StoreError(f"{address}: stores live in folders or at {S3}bucket/name.zarr; give one of these")
    return Folder(Path(address))


def is_remote(location: Location) -> bool:
    """Whether it is object storage: no renaming, no locks, no write permission to take away."""
    return str(location).startswith(S3)


class Folder:
    """A location on a local disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    def beside(self, suffix: str) -> Folder:
        """The folder beside it whose name is longer by `suffix`."""
        return Folder(self.path.with_name(self.path.name + suffix))

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return (self.path / name).exists()

    def names(self) -> Iterator[str]:
        """Every file, in sorted order."""
        return files_of(self.path)

    def sizes(self) -> dict[str, int]:
        """Every file with its length in bytes, in sorted order."""
        return {name: (self.path / name).stat().st_size for name in self.names()}

    def read(self, name: str) -> bytes:
        """A whole file."""
        return (self.path / name).read_bytes()

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes of a file from `offset`, fewer at its end."""
        handle = os.open(self.path / name, os.O_RDONLY)
        try:
            return os.pread(handle, length, offset)
        finally:
            os.close(handle)

    def read_end(self, name: str, length: int) -> bytes:
        """The last `length` bytes of a file, fewer if it is shorter."""
        handle = os.open(self.path / name, os.O_RDONLY)
        try:
            return os.pread(handle, length, max(0, os.fstat(handle).st_size - length))
        finally:
            os.close(handle)

    def digest(self, name: str) -> str:
        """The sha256 of a file, in hex."""
        return digest_file(self.path / name)

    def write(self, name: str, data: bytes) -> None:
        """Write beside its place under a name of its own, sync, rename, sync the folders that are new."""
        file = self.path / name
        new = [folder for folder in file.parents if not folder.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{os.getpid()}-{os.urandom(4).hex()}{PARTIAL}")
        try:
            with partial.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        for folder in (file.parent, *(folder.parent for folder in new)):
            sync(folder)

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def remove_all(self) -> None:
        """Remove everything, as far as that is possible."""
        shutil.rmtree(self.path, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what writes that were cut off left behind."""
        for leftover in self.path.rglob(f"*{PARTIAL}"):
            leftover.unlink(missing_ok=True)

    def protect(self) -> None:
        """Take the write permission from every file."""
        for name in self.names():
            file = self.path / name
            if (mode := file.stat().st_mode) & WRITABLE:
                file.chmod(mode & ~WRITABLE)

    def zarr_store(self) -> LocalStore:
        """The folder as a store that zarr reads."""
        return LocalStore(self.path, read_only=True)


def digest_bytes(data: bytes) -> str:
    """The sha256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()
