"""A download that is bounded: by the size that is expected, by time without data, and to one process at a time."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import INTERNAL_SERVER_ERROR, PARTIAL_CONTENT, REQUESTED_RANGE_NOT_SATISFIABLE, HTTPException
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.error import HTTPError, URLError

from store.disk.locks import awaited, locked
from store.files import disk_errors
from store.foreign.kinds import not_weights
from store.foreign.patience import open_patiently
from store.schema import StoreError

PIECE = 1 << 20  # bytes that are copied at once
TIMEOUT = 30  # seconds without a byte before a download fails
SEEN = 512  # bytes of an answer that show what it is
RESUME = "run the same command again to resume"
WINDOW, LEAST = 60, 64 << 10  # seconds, and the bytes that must come in them: a trickle has no end


class Refused(Exception):  # noqa: N818 - its text is a part of an error
    """An answer that is not the expected file, in words such as "it has 5 bytes"; nothing of it is worth keeping."""


class Broken(Exception):  # noqa: N818 - its text is a part of an error
    """A connection that failed, in words that end in what to do; what came before is kept."""


@contextmanager
def alone(partial: Path, wait: Callable[[], object]) -> Iterator[None]:
    """Hold the lock on `partial`, which is made if need be; calls `wait` once before it waits for another process.

    A killed process releases its lock, and what it left is there to continue with.
    """
    with awaited(_lock_of(partial), str(partial), wait):
        with disk_errors(partial):
            partial.open("ab").close()
        try:
            yield
        finally:
            if partial.exists() and not partial.stat().st_size:
                partial.unlink()


def sweep(partial: Path) -> None:
    """Remove what a killed download left, unless another process is writing it, or this one may not remove it."""
    if partial.exists():
        with suppress(OSError, StoreError), locked(_lock_of(partial), str(partial)):
            partial.unlink()


def _lock_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.lock")


def download(address: str, size: int, partial: Path, watch: Callable[[int], object]) -> None:
    """Append the missing bytes of `address` to `partial`, never beyond `size` bytes; `watch` gets each piece's bytes.

    If the server does not support ranges, it starts again. Raises Refused for an answer that is not a file of this
    size, and Broken if the connection fails, stalls or ends early.
    """
    present = partial.stat().st_size
    if present > size:
        present = 0
    if present == size:
        return
    try:
        request = urllib.request.Request(address, headers={"Range": f"bytes={present}-"} if present else {})
        with open_patiently(request, TIMEOUT, WINDOW) as response:
            present = present if response.status == PARTIAL_CONTENT else 0
            said = str(response.headers.get("Content-Length") or "")
            if said.isascii() and said.isdigit() and present + int(said[:20]) != size:
                raise _other(
                    response.read1(PIECE) if not present else b"", f"it has {present + int(said[:20]):,} bytes"
                )
            _append(response, partial, present, size, watch)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: not an address
        if isinstance(error, HTTPError):
            error.close()
            if error.code == REQUESTED_RANGE_NOT_SATISFIABLE:
                _empty(partial)
        raise Broken(f"cannot fetch {address}: {_reason(error)}") from error
    if not (got := partial.stat().st_size):
        raise Refused("it has no bytes")
    if got < size:
        with partial.open("rb") as file:
            if page := not_weights(file.read(PIECE)):
                raise Refused(f"it {page}")
        raise Broken(
            f"{address}: the download stopped after {got:,} of {size:,} bytes, which are kept in {partial}; {RESUME}"
        )


def _append(response: Any, partial: Path, present: int, size: int, watch: Callable[[int], object]) -> None:
    """Write a response after the first `present` bytes of `partial`; keeps what was written when the disk is full."""
    with disk_errors(partial):
        file = partial.open("r+b")
        file.truncate(present)
    with file:
        watch(file.seek(present))
        begun, counted = monotonic(), present
        while piece := _read(response, size - present):
            if not present and len(piece) >= SEEN and (page := not_weights(piece)):
                raise Refused(f"it {page}")
            present += len(piece)
            if present > size:
                raise Refused(f"it has more than {size:,} bytes")
            with disk_errors(partial):
                file.write(piece)
                file.flush()
            watch(len(piece))
            if monotonic() - begun > WINDOW:
                if present - counted < LEAST:
                    raise TimeoutError
                begun, counted = monotonic(), present


def _read(response: Any, missing: int) -> bytes:
    """The next bytes of a response, at most one more than are missing; b"" at its end."""
    try:
        return bytes(response.read1(min(PIECE, missing + 1)))
    except TimeoutError:
        if missing:
            raise
        return b""  # all is here; that the server leaves the connection open does no harm


def _other(head: bytes, size: str) -> Refused:
    """The refusal of an answer of another size, by what its first bytes are if these say more."""
    page = not_weights(head)
    return Refused(f"it {page}" if page else size)


def _empty(partial: Path) -> None:
    with disk_errors(partial):
        os.truncate(partial, 0)


def _reason(error: Exception) -> str:
    """Why a connection failed and what to do, in one line."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(cause, HTTPError):
        words = str(cause.reason).splitlines()[:1]  # urllib adds lines to that of a redirection
        answer = f"the server answers {cause.code} {_printable(words[0] if words else '')}".rstrip()
        return f"{answer}; check the address" if cause.code < INTERNAL_SERVER_ERROR else f"{answer}; {RESUME}"
    if isinstance(cause, TimeoutError):
        return f"nothing came for {TIMEOUT} s, or less than {LEAST:,} bytes in {WINDOW} s; {RESUME}"
    return f"{_printable(str(cause)) or type(cause).__name__}; {RESUME}"


def _printable(text: str) -> str:
    """One line of a foreign text, without what could steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))[:200]
