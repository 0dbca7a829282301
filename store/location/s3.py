"""A store in object storage: a prefix of a bucket that speaks S3.

Endpoint, region and credentials come from the usual environment variables (`AWS_ENDPOINT_URL`, `AWS_REGION`,
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, …). An object is there whole or not at all. An upload carries its sha256
twice, in `x-amz-checksum-sha256` and signed in `x-amz-content-sha256`, and S3 refuses one whose bytes came out
otherwise; a server that does not look (moto's) is caught by `store verify`. What fails for a moment is tried again by
the client; what fails for good raises OSError in one line that says what to do.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from importlib.util import find_spec
from math import inf
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from store.files import digest_bytes
from store.location.base import S3, Location
from store.location.s3_client import client_errors, connect
from store.schema import StoreError


class Bucket:
    """A location in object storage, `s3://bucket/prefix`: no renaming, no locks, no write permission to take away."""

    locks = False
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
        """The prefix that is longer by `suffix`."""
        return Bucket(f"{self}{suffix}")

    def within(self, name: str) -> Bucket:
        """The prefix below this one."""
        return Bucket(f"{self}/{name}")

    @cached_property
    def _reading(self) -> Any:
        return connect(self._bucket, self._prefix, listens=True)

    @cached_property
    def _writing(self) -> Any:
        """Another client: for one that listens for silence, an upload is silent until its last byte is sent."""
        return connect(self._bucket, self._prefix, listens=False)

    def errors(self, name: str) -> AbstractContextManager[None]:
        """The client's errors as OSError, in one line."""
        return client_errors(self._bucket, f"{self}/{name}")

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""
        try:
            with self.errors(name):
                self._reading.head(name)
        except FileNotFoundError:
            return False
        return True

    def names(self) -> Iterator[str]:
        """Every object, in sorted order."""
        return iter(self.sizes())

    def sizes(self) -> dict[str, int]:
        """Every object with its length in bytes, in sorted order."""
        with self.errors(""):
            return dict(sorted((entry["path"], entry["size"]) for page in self._reading.list() for entry in page))

    def read(self, name: str) -> bytes:
        """A whole object."""
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

    def write(self, name: str, data: bytes) -> None:
        """Put a whole object."""
        with self.errors(name):
            self._writing.put(name, data, use_multipart=False)

    def claim(self, name: str, data: bytes) -> bytes:
        """Put an object unless there is one; what is there then. Of several that claim at once one wins.

        On a server that cannot (AWS_CONDITIONAL_PUT=disabled says so) the last one wins.
        """
        from obstore.exceptions import AlreadyExistsError

        try:
            with self.errors(name), suppress(AlreadyExistsError):
                self._writing.put(name, data, use_multipart=False, mode="create")
        except NotImplementedError:
            self.write(name, data)
        return self.read(name)

    def remove(self, name: str) -> None:
        """Remove an object if it is there."""
        with self.errors(name):
            self._writing.delete(name)

    def remove_all(self) -> None:
        """Remove every object of the prefix."""
        with self.errors(""):
            self._writing.delete([*self.names()])

    def appear(self, files: Mapping[str, bytes], last: str, scratch: Location) -> None:
        """Put all objects, `last` behind the others."""
        for name in sorted(files, key=lambda name: name == last):
            self.write(name, files[name])

    def taken(self, last: str) -> bool:
        """Whether `last` is there, and so all that was put before it."""
        return self.exists(last)

    @contextmanager
    def locked(self, name: str, what: str) -> Iterator[bool]:
        """Nothing: a bucket has no locks."""
        yield False

    def discard(self, names: Iterable[str]) -> None:
        """Nothing: a bucket is not full."""

    def sweep(self) -> None:
        """Nothing: an object is there whole or not at all."""

    def protect(self) -> None:
        """Nothing: an object has no write permission."""

    def strays(self, files: Collection[str]) -> Iterator[str]:
        """None: a bucket has no folders."""
        return iter(())

    def check_writable(self) -> None:
        """Nothing: that can be told by writing only."""

    def free_bytes(self) -> float:
        """No limit."""
        return inf

    def zarr_store(self) -> ObjectStore[Any]:
        """The prefix as a store that zarr reads."""
        return _Objects(self)


class _Objects(ObjectStore[Any]):
    """What zarr reads of a bucket; its errors are ours, where the client's would be of no kind that anyone expects."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket._reading, read_only=True)
        self._bucket = bucket

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The bytes of an object, None if it is missing."""
        with self._bucket.errors(key):
            return await super().get(key, prototype, byte_range)

    async def list_prefix(self, prefix: str) -> AsyncGenerator[str, None]:
        """The names of the objects below a prefix."""
        with self._bucket.errors(prefix):
            async for name in super().list_prefix(prefix):
                yield name
