"""The pair tables of a store: the pair of each row, and the skipped pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr import Array, Group
from zarr.codecs import Crc32cCodec, ZstdCodec

from store.format.arrays import damaged_table, read_array, read_text
from store.format.codec import KEEP_ZEROS
from store.location.base import Location
from store.schema import Pair, SchemaError, Skipped, Split, StoreError, Table, check_distinct

CHUNK = 4096  # rows that are read at once
TEXT = ("id", "slide", "he", "ihc")
DIGESTS = ("he_digest", "ihc_digest")
SKIPPED = ("id", "split", "he", "ihc", "reason")


def write_tables(group: Group, table: Table) -> None:
    """Write `<split>/pair/…` for every split that has pairs, and `skipped/…`."""
    for split, pairs in table.pairs.items():
        for name in TEXT:
            write_text(group, f"{split}/pair/{name}", [getattr(pair, name) for pair in pairs])
        for name in DIGESTS:
            digests = np.array([list(bytes.fromhex(getattr(pair, name))) for pair in pairs], np.uint8)
            write_numbers(group, f"{split}/pair/{name}", digests, ("pair", "byte"))
    for name in SKIPPED:
        write_text(group, f"skipped/{name}", [getattr(skipped, name) for skipped in table.skipped])


def read_pairs(location: Location, split: Split) -> tuple[Pair, ...]:
    """The pair table of a split, in the order of its rows."""
    text = {name: read_text(location, f"{split}/pair/{name}") for name in TEXT}
    digests = {name: _read_digests(location, f"{split}/pair/{name}") for name in DIGESTS}
    rows = _rows(location, f"{split}/pair", [*text.values(), *digests.values()])
    try:
        pairs = tuple(Pair(**dict(zip((*TEXT, *DIGESTS), row, strict=True))) for row in rows)
        check_distinct((pair.id for pair in pairs), f"pairs of {split}")
    except SchemaError as error:
        raise StoreError(
            f"{location} has a name that no file may have: {error}, build the store again, and trust no store of "
            "unknown origin"
        ) from error
    return pairs


def read_skipped(location: Location) -> tuple[Skipped, ...]:
    """The skipped pairs and the reasons."""
    rows = _rows(location, "skipped", [read_text(location, f"skipped/{name}") for name in SKIPPED])
    return tuple(
        Skipped(id=id_, split=Split(split), he=he, ihc=ihc, reason=reason) for id_, split, he, ihc, reason in rows
    )


def read_table(location: Location, splits: tuple[Split, ...]) -> Table:
    """All pair tables of a store."""
    return Table(pairs={split: read_pairs(location, split) for split in splits}, skipped=read_skipped(location))


def _rows(location: Location, path: str, columns: list[list[str]]) -> list[tuple[str, ...]]:
    """The rows of columns. Raises StoreError if the columns differ in length."""
    if len({len(column) for column in columns}) > 1:
        raise damaged_table(location, path, "its columns differ in length")
    return list(zip(*columns, strict=True))


def write_numbers(group: Group, path: str, values: NDArray[Any], dimensions: tuple[str, ...]) -> Array[Any]:
    """Write a table of numbers in chunks of rows; replaces an older one of that name."""
    array = _create(group, path, values.shape, values.dtype, dimensions)
    array[...] = values
    return array


def _read_digests(location: Location, path: str) -> list[str]:
    rows = read_array(location, path)
    if rows.shape[1:] != (32,):
        raise damaged_table(location, path, f"its rows have the shape {rows.shape[1:]} instead of (32,)")
    return [row.tobytes().hex() for row in rows]


def write_text(group: Group, path: str, values: list[str]) -> None:
    """Write a column of text in chunks of rows."""
    array = _create(group, path, (len(values),), str, ("pair",))
    if values:
        array[...] = np.array(values, dtype=object)


def _create(group: Group, path: str, shape: tuple[int, ...], dtype: Any, dimensions: tuple[str, ...]) -> Array[Any]:
    parent, _, name = path.rpartition("/")
    return group.require_group(parent).create_array(
        name,
        shape=shape,
        chunks=(min(max(shape[0], 1), CHUNK), *shape[1:]),
        dtype=dtype,
        compressors=[ZstdCodec(level=5), Crc32cCodec()],
        dimension_names=dimensions,
        config=KEEP_ZEROS,
        overwrite=True,
    )
