"""The client of object storage: how it connects, how long it retries, and its errors in one line."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from store.schema import StoreError

CONNECT = timedelta(seconds=10)  # to reach the server
SILENCE = timedelta(seconds=60)  # without a byte of an answer before a reading request fails
REQUEST = timedelta(minutes=10)  # for one request: a shard of some 50 MB over a slow line
RETRIES = 10  # of requests that fail for a moment (5xx, dropped connections, silence): about 45 s of refusals
WAIT = timedelta(seconds=0.1)  # before the second try; doubled before each further one, at most 15 s
RETRY_FOR = timedelta(minutes=3)
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # the first that is set
AUTHORITIES = "AWS_CA_BUNDLE"
NO_CREDENTIALS = r"/latest/api/token|Missing \w+Key"  # without credentials the client queries a metadata service


def connect(bucket: str, prefix: str, *, reading: bool) -> Any:
    """A client of a prefix, before any request; one for `reading` gives up on a server that is silent."""
    from obstore.store import S3Store

    options: dict[str, Any] = {"connect_timeout": CONNECT, "timeout": REQUEST}
    if reading:
        options["read_timeout"] = SILENCE
    endpoint = _endpoint()
    if endpoint.startswith("http://"):  # a server on loopback or in a closed network
        options["allow_http"] = True
    if authorities := os.environ.get(AUTHORITIES):
        options["root_certificate"] = _certificates(authorities)
    return S3Store(
        bucket,
        prefix=prefix,
        client_options=options,  # type: ignore[arg-type] # built step by step
        retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_FOR, "backoff": {"init_backoff": WAIT}},
        config={"checksum_algorithm": "SHA256", **({"endpoint": endpoint} if endpoint else {})},
    )


@contextmanager
def client_errors(bucket: str, what: str) -> Iterator[None]:
    """Turn errors of the client into OSError with one line that says what to do."""
    from obstore import exceptions

    try:
        yield
    except (FileNotFoundError, exceptions.BaseError) as error:
        if "<Code>NoSuchBucket<" in str(error):
            hint = f"there is no bucket {bucket!r} on that server; correct the address, or create the bucket"
        elif isinstance(error, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, "there is no such object", what) from error
        elif re.search(NO_CREDENTIALS, str(error)):
            hint = "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        elif isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            hint = "check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and their rights on this bucket"
        else:
            hint = "check the network and the server, then run the same command again"
        raise OSError(f"{_one_line(error)}; {hint}") from error


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
    """The first sentence of an error, whose text is pages of XML, and the server's code for it."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    sentence = " ".join(re.split(r"\n|: <", text, maxsplit=1)[0].removeprefix("Generic S3 error: ").split())
    return sentence.rstrip(": ") + (f" ({code[1]})" if code else "")
