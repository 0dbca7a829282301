"""What a place is where a store lies: a folder on a local disk, or a prefix of a bucket in object storage.

A location knows files by their names relative to it. Writing is whole or not at all and lasts when the call returns;
what cannot be done raises OSError (FileNotFoundError for a missing file), which `disk_errors` turns into an error that
helps. A location says itself what it can do: callers never ask which class it is. Locations can be pickled and hold
nothing open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

S3 = "s3://"  # how the address of a place in object storage begins


class Location(Protocol):
    """A folder or a prefix; `str()` of it is the address that a person types."""

    @property
    def name(self) -> str:
        """The last part of the address."""

    @property
    def folder(self) -> Path | None:
        """The folder on a local disk; None in object storage."""

    @property
    def locks(self) -> bool:
        """Whether `locked` keeps other processes away."""

    def beside(self, suffix: str) -> Location:
        """The location whose address is this one's and `suffix`."""

    def within(self, name: str) -> Location:
        """The location below this one."""

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

    def claim(self, name: str, data: bytes) -> bytes:
        """Write a file unless there is one; what is there then. Of several that claim at once one wins."""

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""

    def remove_all(self) -> None:
        """Remove everything, as far as that is possible."""

    def appear(self, files: Mapping[str, bytes], last: str, scratch: Location) -> None:
        """Write all files so that nobody sees `last` before the others: by renaming `scratch`, or in that order."""

    def taken(self, last: str) -> bool:
        """Whether `appear` is done here already, or something else is in its way."""

    def locked(self, name: str, what: str) -> AbstractContextManager[bool]:
        """Hold the lock `name` of this location, if it `locks`; yields whether the location is new.

        Raises StoreError, which names `what`, if another process holds it; a failure leaves nothing behind.
        """

    def discard(self, names: Iterable[str]) -> None:
        """Free the room of files that could not all be written, where room is short."""

    def sweep(self) -> None:
        """Remove what interrupted writes left behind."""

    def protect(self) -> None:
        """Take the write permission from every file, where there is one."""

    def strays(self, files: Collection[str]) -> Iterator[str]:
        """Folders that hold none of `files`, each ending in a slash: bare zarr stumbles over them."""

    def check_writable(self) -> None:
        """Raise OSError if nothing can be written here, as far as that can be told; leaves nothing behind."""

    def free_bytes(self) -> float:
        """Bytes that can still be written; infinite where nobody counts them."""

    def zarr_store(self) -> Any:
        """The location as a store that zarr reads."""
