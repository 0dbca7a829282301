"""A location in object storage: a prefix of a bucket, reached by the S3 protocol.

Endpoint, region and credentials come from the usual environment variables (`AWS_ENDPOINT_URL`, `AWS_REGION`,
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, …). An object is complete or does not exist. An upload carries its sha256
twice, in `x-amz-checksum-sha256` and signed in `x-amz-content-sha256`, and S3 refuses bytes that do not match; where a
server does not check (moto's), `store verify` finds them. The client retries what fails for a moment; what fails for
good raises OSError with one line that says what to do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from importlib.util import find_spec
from math import inf
from typing import Any

from store.files import digest_bytes
from store.location.base import S3, Location
from store.location.s3_client import client_errors, connect
from store.schema import StoreError


class Bucket:
    """A location in object storage, `s3://bucket/prefix`: without renaming, locks, folders and permissions."""

    can_lock = False
    folder = None

    def __init__(self, address: str) -> None:
        self._bucket, _, self._prefix = address.removeprefix(S3).rstrip("/").partition("/")
        if not self._bucket or {"", ".", ".."} & {*self._prefix.split("/")}:
            raise StoreError(f"{address}: an address in object storage is {S3}bucket/name.zarr or {S3}bucket/a/b.zarr")
        if find_spec("obstore") is None:
            raise StoreError(
                f"{address}: object storage needs an extra; run `make setup`, or pip install '.[cloud]' in the folder "
                "of the project"
            )

    def __str__(self) -> str:
        return f"{S3}{self._bucket}/{self._prefix}"

    def __reduce__(self) -> tuple[type[Bucket], tuple[str]]:
        return Bucket, (str(self),)

    @property
    def name(self) -> str:
        """The last part of the prefix."""
        return self._prefix.rpartition("/")[2]

    def beside(self, suffix: str) -> Bucket:
        """The prefix followed by `suffix`."""
        return Bucket(f"{self}{suffix}")

    def within(self, name: str) -> Bucket:
        """A prefix below this one."""
        return Bucket(f"{self}/{name}")

    @cached_property
    def _reading(self) -> Any:
        return connect(self._bucket, self._prefix, reading=True)

    @cached_property
    def _writing(self) -> Any:
        """A client without a limit of silence: a server does not answer before the last byte of an upload."""
        return connect(self._bucket, self._prefix, reading=False)

    def errors(self, name: str) -> AbstractContextManager[None]:
        """Turn errors of the client into OSError with one line."""
        return client_errors(self._bucket, f"{self}/{name}")

    def exists(self, name: str) -> bool:
        """Whether an object of this name exists."""
        try:
            with self.errors(name):
                self._reading.head(name)
        except FileNotFoundError:
            return False
        return True

    def names(self) -> Iterator[str]:
        """The names of all objects, sorted."""
        return iter(self.sizes())

    def sizes(self) -> dict[str, int]:
        """The length of every object in bytes, sorted by name."""
        with self.errors(""):
            return dict(sorted((entry["path"], entry["size"]) for page in self._reading.list() for entry in page))

    def read(self, name: str) -> bytes:
        """All bytes of an object."""
        with self.errors(name):
            return bytes(self._reading.get(name).bytes())

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes of an object from `offset`, fewer at its end."""
        with self.errors(name):
            return bytes(self._reading.get_range(name, start=offset, length=length))

    def read_end(self, name: str, length: int) -> bytes:
        """The last `length` bytes of an object, fewer if it is shorter."""
        with self.errors(name):
            return bytes(self._reading.get(name, options={"range": {"suffix": length}}).bytes())

    def digest(self, name: str) -> str:
        """The sha256 of an object, in hex."""
        return digest_bytes(self.read(name))

    def write(self, name: str, *parts: bytes) -> None:
        """Put an object or replace it."""
        with self.errors(name):
            self._writing.put(name, b"".join(parts), use_multipart=False)

    def claim(self, name: str, data: bytes) -> bytes:
        """Put an object unless it exists; returns the bytes that exist then. Of concurrent claims one wins.

        On a server without conditional writes (AWS_CONDITIONAL_PUT=disabled) the last one wins.
        """
        from obstore.exceptions import AlreadyExistsError

        try:
            with self.errors(name), suppress(AlreadyExistsError):
                self._writing.put(name, data, use_multipart=False, mode="create")
        except NotImplementedError:
            self.write(name, data)
        return self.read(name)

    def remove(self, name: str) -> None:
        """Remove an object if it exists."""
        with self.errors(name):
            self._writing.delete(name)

    def remove_all(self) -> None:
        """Remove every object of the prefix."""
        with self.errors(""):
            self._writing.delete([*self.names()])

    def publish(self, files: Mapping[str, bytes], last: str, scratch: Location) -> None:
        """Put all objects, `last` after the others; `scratch` is not needed."""
        for name in sorted(files, key=lambda name: name == last):
            self.write(name, files[name])

    def occupied(self, last: str) -> bool:
        """Whether `last` exists, and therefore all that was put before it."""
        return self.exists(last)

    @contextmanager
    def lock(self, name: str, what: str) -> Iterator[bool]:
        """Does nothing: a bucket has no locks."""
        yield False

    def discard(self, names: Iterable[str]) -> None:
        """Does nothing: a bucket does not fill up."""

    def forget(self, names: Iterable[str]) -> None:
        """Does nothing: no object is kept in memory."""

    def remove_partial(self) -> None:
        """Does nothing: an interrupted upload leaves no object."""

    def make_read_only(self) -> None:
        """Does nothing: an object has no write permission."""

    def stray_folders(self, files: Collection[str]) -> Iterator[str]:
        """None: a bucket has no folders."""
        return iter(())

    def check_writable(self) -> None:
        """Does nothing: only a real write would show it."""

    def free_bytes(self) -> float:
        """No limit."""
        return inf
