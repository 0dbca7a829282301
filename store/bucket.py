"""A store in object storage: a prefix of a bucket that speaks S3.

Endpoint, region and credentials come from the usual environment variables (`AWS_ENDPOINT_URL`, `AWS_REGION`,
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, …). An object is there whole or not at all. An upload carries its sha256
twice, in `x-amz-checksum-sha256` and signed in `x-amz-content-sha256`, and S3 refuses one whose bytes came out
otherwise; a server that does not look (moto's) is caught by `store verify`. What fails for a moment is tried again by
the client; what fails for good raises OSError in one line that says what to do.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from store.location import S3, digest_bytes
from store.schema import StoreError

CONNECT = timedelta(seconds=10)  # to reach the server
SILENCE = timedelta(seconds=60)  # without a byte of an answer before a reading request is given up
REQUEST = timedelta(minutes=10)  # for one request: a shard of some 50 MB over a slow line
RETRIES = 10  # of requests that fail for a moment (5xx, dropped connections, silence): about 45 s of refusals
WAIT = timedelta(seconds=0.1)  # before the second try; about twice as long before each further one, at most 15 s
RETRY_FOR = timedelta(minutes=3)
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # the first that is set
AUTHORITIES = "AWS_CA_BUNDLE"
NO_CREDENTIALS = r"/latest/api/token|Missing \w+Key"  # without any the client asks the machine's metadata service


class Bucket:
    """A location in object storage, `s3://bucket/prefix`."""

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

    @cached_property
    def _reading(self) -> Any:
        return self._connect(read_timeout=SILENCE)

    @cached_property
    def _writing(self) -> Any:
        """Another client: for one that listens for silence, an upload is silent until its last byte is sent."""
        return self._connect()

    def _connect(self, **timeouts: timedelta) -> Any:
        from obstore.store import S3Store

        options: dict[str, Any] = {"connect_timeout": CONNECT, "timeout": REQUEST, **timeouts}
        endpoint = _endpoint()
        if endpoint.startswith("http://"):  # a server on loopback or in a closed network
            options["allow_http"] = True
        if authorities := os.environ.get(AUTHORITIES):
            options["root_certificate"] = _certificates(authorities)
        return S3Store(
            self._bucket,
            prefix=self._prefix,
            client_options=options,  # type: ignore[arg-type] # built step by step
            retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_FOR, "backoff": {"init_backoff": WAIT}},
            config={"checksum_algorithm": "SHA256", **({"endpoint": endpoint} if endpoint else {})},
        )

    @contextmanager
    def errors(self, name: str) -> Iterator[None]:
        """The client's errors as OSError, in one line."""
        from obstore import exceptions

        try:
            yield
        except (FileNotFoundError, exceptions.BaseError) as error:
            if "<Code>NoSuchBucket<" in str(error):
                hint = f"there is no bucket {self._bucket!r} on that server; correct the address, or make the bucket"
            elif isinstance(error, FileNotFoundError):
                raise FileNotFoundError(errno.ENOENT, "there is no such object", f"{self}/{name}") from error
            elif re.search(NO_CREDENTIALS, str(error)):
                hint = "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            elif isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
                hint = "check the credentials (AWS_ACCESS_KEY_ID and its kin) and what they are allowed in this bucket"
            else:
                hint = "check the network and the server, then run the same command again"
            raise OSError(f"{_one_line(error)}; {hint}") from error

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


def _endpoint() -> str:
    """The server's address from the environment; empty for AWS itself."""
    for variable in ENDPOINTS:
        if endpoint := os.environ.get(variable):
            parts = urlsplit(endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise StoreError(f"{variable}={endpoint}: a server's address is like https://host or http://host:9000")
            return endpoint
    return ""


def _certificates(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise StoreError(f"{AUTHORITIES}={file} cannot be read: {error.strerror}; correct it") from error


def _one_line(error: BaseException) -> str:
    """The sentence of an error whose text is pages of XML and debugging, and the server's own word for it."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    sentence = " ".join(re.split(r"\n|: <", text, maxsplit=1)[0].removeprefix("Generic S3 error: ").split())
    return sentence.rstrip(": ") + (f" ({code[1]})" if code else "")
