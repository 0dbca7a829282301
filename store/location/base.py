"""What a location is: a folder on a local disk, or a prefix of a bucket in object storage.

A location holds files, named relative to it. A write is atomic and durable when the call returns; a failure raises
OSError (FileNotFoundError for a missing file), which `disk_errors` turns into a StoreError that says what to do. What a
location cannot do (locks, permissions, folders) does nothing there, so that callers never ask which class it is.
Locations can be pickled and hold nothing open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

BESIDE = ".journal"  # the ending of the name of what is beside an unfinished store
S3 = "s3://"  # the start of an address in object storage


class Location(Protocol):
    """A folder or a prefix; `str()` of it is its address, as given on the command line."""

    @property
    def name(self) -> str:
        """The last part of the address."""

    @property
    def folder(self) -> Path | None:
        """The folder on a local disk; None in object storage."""

    @property
    def can_lock(self) -> bool:
        """Whether `lock` excludes other processes."""

    def beside(self, suffix: str) -> Location:
        """The location whose address is this one's followed by `suffix`."""

    def within(self, name: str) -> Location:
        """The location below this one."""

    def exists(self, name: str) -> bool:
        """Whether a file of this name exists."""

    def names(self) -> Iterator[str]:
        """The names of all files, sorted."""

    def sizes(self) -> dict[str, int]:
        """The length of every file in bytes, sorted by name."""

    def read(self, name: str) -> bytes:
        """All bytes of a file."""

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes of a file from `offset`, fewer at its end."""

    def read_end(self, name: str, length: int) -> bytes:
        """The last `length` bytes of a file, fewer if it is shorter."""

    def digest(self, name: str) -> str:
        """The sha256 of a file, in hex."""

    def write(self, name: str, *parts: bytes) -> None:
        """Write a file of these parts, or replace it; a reader sees the old bytes or the new ones."""

    def claim(self, name: str, data: bytes) -> bytes:
        """Write a file unless it exists; returns the bytes that exist then. Of concurrent claims one wins."""

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""

    def remove_all(self) -> None:
        """Remove everything, as far as possible."""

    def publish(self, files: Mapping[str, bytes], last: str, scratch: Location) -> None:
        """Write all files so that `last` is never visible without the others: `scratch` renamed, or `last` put last."""

    def occupied(self, last: str) -> bool:
        """Whether `publish` already succeeded here, or something else is in its way."""

    def lock(self, name: str, what: str) -> AbstractContextManager[bool]:
        """Hold the lock `name` of this location if it `can_lock`; yields whether the location is new.

        Raises StoreError, which names `what`, if another process holds it; a failure leaves nothing behind.
        """

    def discard(self, names: Iterable[str]) -> None:
        """Remove the files of a failed write, as far as possible, where they would fill the disk."""

    def forget(self, names: Iterable[str]) -> None:
        """Let the system drop what it keeps of these files in memory: the next reader gets what is on the disk."""

    def remove_partial(self) -> None:
        """Remove what interrupted writes left behind."""

    def make_read_only(self) -> None:
        """Remove the write permission of every file, where permissions exist."""

    def stray_folders(self, files: Collection[str]) -> Iterator[str]:
        """Folders that hold none of `files`, each name ending in a slash: zarr warns about them."""

    def check_writable(self) -> None:
        """Raise OSError if nothing can be written here, where that can be tested without leaving a file."""

    def free_bytes(self) -> float:
        """Bytes that can still be written; infinite in object storage."""
