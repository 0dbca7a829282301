"""Read a table of a store: numbers, or a column of text, in files of whole rows.

Tables are read without zarr, as pictures are: its metadata and its headers say how much memory it takes, and whoever
made a store may have written anything there. Here the metadata must be those that this program writes, and every file
is unpacked into memory whose size is known before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.format.codec import checked, unpack_numbers, unpack_text
from store.location.base import Location
from store.schema import StoreError
from store.untrusted.documents import DocumentError, parse_object

METADATA = "zarr.json"
TEXT = "string"
DTYPES = {"uint8": "|u1", "int32": "<i4"}
CODECS = {TEXT: "vlen-utf8"} | dict.fromkeys(DTYPES, "bytes")  # the first of a chain; zstd and crc32c follow
KEYS = {"name": "default", "configuration": {"separator": "/"}}
FILE_BYTES = 1 << 26  # of the numbers in a file
MOST_ROWS = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """What its metadata say of a table: the kind of its values, its shape, the rows in each of its files."""

    kind: str
    shape: tuple[int, ...]
    rows: int

    def __post_init__(self) -> None:
        numbers = prod(self.shape[1:]) * self.rows
        if not (0 <= self.shape[0] <= MOST_ROWS and 1 <= self.rows <= MOST_ROWS and 1 <= numbers <= FILE_BYTES // 4):
            raise StoreError(f"its metadata say {list(self.shape)} in files of {self.rows} rows, which is no table")

    @property
    def files(self) -> list[str]:
        """Its files, relative to its folder."""
        count = -(-self.shape[0] // self.rows)
        return ["/".join(["c", str(number), *("0" for _ in self.shape[1:])]) for number in range(count)]

    def numbers(self, body: bytes) -> NDArray[Any]:
        """The rows in a file, with those that fill up a short last one."""
        return unpack_numbers(body, np.empty((self.rows, *self.shape[1:]), DTYPES[self.kind]))


def read_array(location: Location, path: str) -> NDArray[Any]:
    """A table of numbers. Raises StoreError if a part is missing, was altered, or is not as this program writes it."""
    with _named(location, path):
        facts = _read_facts(location, path, tuple(DTYPES))
        parts = [facts.numbers(body) for body in _bodies(location, path, facts.files)]
        return np.concatenate(parts)[: facts.shape[0]] if parts else np.empty(facts.shape, DTYPES[facts.kind])


def read_rows(location: Location, path: str, file: int) -> NDArray[Any]:
    """The rows in one file of a table of numbers. Raises StoreError as `read_array` does."""
    with _named(location, path):
        facts = _read_facts(location, path, tuple(DTYPES))
        (body,) = _bodies(location, path, facts.files[file : file + 1])
        return facts.numbers(body)[: facts.shape[0] - file * facts.rows]


def read_text(location: Location, path: str) -> list[str]:
    """A column of text. Raises StoreError as `read_array` does."""
    with _named(location, path):
        facts = _read_facts(location, path, (TEXT,))
        texts = [text for body in _bodies(location, path, facts.files) for text in unpack_text(body, facts.rows)]
        return texts[: facts.shape[0]]


def damaged_table(location: Location, path: str, reason: str) -> StoreError:
    """The error of a table that cannot be read; it says how to list all damage."""
    return StoreError(
        f"table {path} of {location} cannot be read ({reason}); `python -m store verify {location}` lists all damage"
    )


@contextmanager
def _named(location: Location, path: str) -> Iterator[None]:
    """Errors in the block name the table."""
    try:
        yield
    except (StoreError, OSError) as error:
        raise damaged_table(location, path, str(error)) from error


def _read_facts(location: Location, path: str, kinds: Sequence[str]) -> TableFacts:
    """The facts of a table of one of these kinds. StoreError unless its metadata are what this program writes."""
    try:
        tree = parse_object(location.read(f"{path}/{METADATA}"))
        first, *rest = tree["codecs"]
        kind, chunk = tree["data_type"], tree["chunk_grid"]["configuration"]["chunk_shape"]
        facts = TableFacts(kind=kind, shape=tuple(map(int, tree["shape"])), rows=int(chunk[0]))
        names = [CODECS[kind], "zstd", "crc32c"]
        same = [first["name"], *(codec["name"] for codec in rest)] == names and tree["chunk_key_encoding"] == KEYS
        little = first.get("configuration", {}).get("endian", "little") == "little"
        whole = tuple(chunk[1:]) == facts.shape[1:] and tree["chunk_grid"]["name"] == "regular"
    except FileNotFoundError as error:
        raise StoreError("its metadata are missing") from error
    except (DocumentError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise StoreError("its metadata are damaged") from error
    if not (kind in kinds and same and little and whole and (kind != TEXT or len(facts.shape) == 1)):
        raise StoreError("its metadata are not those of such a table")
    return facts


def _bodies(location: Location, path: str, files: Sequence[str]) -> Iterator[bytes]:
    """The packed rows in each of these files of a table."""
    for name in files:
        try:
            data = location.read(f"{path}/{name}")
        except FileNotFoundError as error:
            raise StoreError(f"its file {name} is missing") from error
        yield checked(data)
