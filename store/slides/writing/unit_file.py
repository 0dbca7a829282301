"""The file of a unit: a line of JSON, which says what follows and has its digest, then the bytes of its output tiles.

Tiles are in rows over the whole unit, so that a row of them is read at once. A tile of a skipped core has no bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from store.files import DIGEST, digest_tree
from store.schema import StoreError
from store.untrusted.documents import DocumentError, parse_object

REMEDY = "the same command makes it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Where the tiles of a unit lie in its file: row by row, `columns` in each; `skipped` says which cores were."""

    columns: int
    skipped: tuple[bool, ...]
    places: tuple[int, ...]  # where each tile begins, and where the last one ends, in bytes of the file
    digests: tuple[str, ...]  # sha256 in hex


def to_parts(file: Path, tiles: Sequence[bytes], columns: int, skipped: Sequence[bool]) -> Iterator[bytes]:
    """The bytes of a unit's file, of tiles in rows of `columns`; equal tiles of one place make equal bytes."""
    tree = {
        "place": _place(file),
        "columns": columns,
        "skipped": list(skipped),
        "lengths": [len(tile) for tile in tiles],
        "digests": [hashlib.sha256(tile).hexdigest() for tile in tiles],
    }
    yield json.dumps(tree | {DIGEST: digest_tree(tree)}).encode() + b"\n"
    yield from tiles


def read_index(file: Path) -> Index:
    """The index of a unit's file. Raises StoreError if it is damaged or cannot be read."""
    try:
        with file.open("rb") as opened:
            line = opened.readline()
            size = os.fstat(opened.fileno()).st_size
        tree = parse_object(line)
    except (OSError, DocumentError) as error:
        raise StoreError(f"{file} cannot be read ({error}); {REMEDY}") from error
    if tree.pop(DIGEST, "") != digest_tree(tree):
        raise _damaged(file)
    if tree["place"] != _place(file):
        raise StoreError(f"{file} is the file of another place, {tree['place']}; {REMEDY}")
    places = tuple(accumulate(tree["lengths"], initial=len(line)))
    if places[-1] != size:
        raise _damaged(file)
    return Index(columns=tree["columns"], skipped=tuple(tree["skipped"]), places=places, digests=tuple(tree["digests"]))


def read_tiles(file: Path, index: Index, first: int, count: int) -> Iterator[bytes]:
    """The bytes of tiles that follow each other. Raises StoreError if one is damaged."""
    start, *ends = index.places[first : first + count + 1]
    try:
        handle = os.open(file, os.O_RDONLY)
        try:
            data = os.pread(handle, ends[-1] - start, start)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(f"{file} cannot be read ({error.strerror}); {REMEDY}") from error
    for begin, end, digest in zip((start, *ends), ends, index.digests[first:], strict=False):
        tile = data[begin - start : end - start]
        if hashlib.sha256(tile).hexdigest() != digest:
            raise _damaged(file)
        yield tile


def is_whole(file: Path) -> bool:
    """Whether a unit's file exists with the bytes that it was written with."""
    try:
        index = read_index(file)
        rows = range(0, len(index.digests), index.columns)
        return all(len(list(read_tiles(file, index, first, index.columns))) == index.columns for first in rows)
    except StoreError:
        return False


def _place(file: Path) -> str:
    """Level and unit, which their names say."""
    return f"{file.parent.name}/{file.name}"


def _damaged(file: Path) -> StoreError:
    return StoreError(f"{file} is damaged: its bytes do not have the digest in it; {REMEDY}")
