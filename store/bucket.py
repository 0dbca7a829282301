"""A store in object storage: a prefix of a bucket that speaks S3.

Endpoint, region and credentials come from the usual environment variables (`AWS_ENDPOINT_URL`, `AWS_REGION`,
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, …). An upload carries its sha256, which the server checks, and an object
is there whole or not at all. What fails for a moment is tried again by the client; what fails for good raises OSError.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any

from zarr.storage import ObjectStore

from store.location import S3, digest_bytes
from store.schema import StoreError

CONNECT = timedelta(seconds=10)  # to reach the server
SILENCE = timedelta(seconds=60)  # without a byte before a request is given up
REQUEST = timedelta(minutes=10)  # for one request: a shard of some 50 MB over a slow line
RETRIES = 5  # of requests that fail for a moment: 5xx, dropped connections, reads that time out
RETRY_FOR = timedelta(minutes=3)
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # the first that is set
AUTHORITIES = "AWS_CA_BUNDLE"


class Bucket:
    """A location in object storage, `s3://bucket/prefix`."""

    def __init__(self, address: str) -> None:
        bucket, _, prefix = address.removeprefix(S3).strip("/").partition("/")
        if not bucket or not prefix:
            raise StoreError(f"{address}: an address in object storage is {S3}bucket/name.zarr")
        self._bucket, self._prefix = bucket, prefix

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
    def _client(self) -> Any:
        try:
            from obstore.store import S3Store
        except ImportError as error:
            raise StoreError(
                f"{self}: object storage needs the extra `cloud`; install it with pip install 'magstain[cloud]'"
            ) from error
        endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
        options: dict[str, Any] = {"connect_timeout": CONNECT, "read_timeout": SILENCE, "timeout": REQUEST}
        if endpoint and endpoint.startswith("http://"):  # a server on loopback or in a closed network
            options["allow_http"] = True
        if authorities := os.environ.get(AUTHORITIES):
            with open(authorities, "rb") as file:  # noqa: PTH123 - a name from the environment
                options["root_certificate"] = file.read()
        return S3Store(
            self._bucket,
            prefix=self._prefix,
            client_options=options,  # type: ignore[arg-type] # built step by step
            retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_FOR},
            config={"checksum_algorithm": "SHA256", **({"endpoint": endpoint} if endpoint else {})},
        )

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """The client's errors as OSError, in one line."""
        from obstore import exceptions

        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, _first_line(error), name) from error
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise OSError(f"{_first_line(error)}; check the credentials in AWS_ACCESS_KEY_ID and its kin") from error
        except exceptions.BaseError as error:
            raise OSError(
                f"{_first_line(error)}; check the network and the server, then run the same command again"
            ) from error

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""
        try:
            with self._errors(name):
                self._client.head(name)
        except FileNotFoundError:
            return False
        return True

    def names(self) -> Iterator[str]:
        """Every object, in sorted order."""
        return iter(self.sizes())

    def sizes(self) -> dict[str, int]:
        """Every object with its length in bytes, in sorted order."""
        with self._errors(""):
            return dict(sorted((entry["path"], entry["size"]) for page in self._client.list() for entry in page))

    def read(self, name: str) -> bytes:
        """A whole object."""
        with self._errors(name):
            return bytes(self._client.get(name).bytes())

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes of an object from `offset`, fewer at its end."""
        with self._errors(name):
            return bytes(self._client.get_range(name, start=offset, length=length))

    def read_end(self, name: str, length: int) -> bytes:
        """The last `length` bytes of an object, fewer if it is shorter."""
        with self._errors(name):
            return bytes(self._client.get(name, options={"range": {"suffix": length}}).bytes())

    def digest(self, name: str) -> str:
        """The sha256 of an object, in hex."""
        return digest_bytes(self.read(name))

    def write(self, name: str, data: bytes) -> None:
        """Put a whole object; the server checks its sha256."""
        with self._errors(name):
            self._client.put(name, data, use_multipart=False)

    def remove(self, name: str) -> None:
        """Remove an object if it is there."""
        with self._errors(name):
            self._client.delete(name)

    def remove_all(self) -> None:
        """Remove every object of the prefix."""
        for name in [*self.names()]:
            self.remove(name)

    def zarr_store(self) -> ObjectStore[Any]:
        """The prefix as a store that zarr reads."""
        return ObjectStore(self._client, read_only=True)


def _first_line(error: BaseException) -> str:
    """The sentence of an error whose text is a page of debugging."""
    return str(error).partition("\n")[0].partition(": <?xml")[0].strip()
