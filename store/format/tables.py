"""The pair tables of a store: the pair of each row, and the skipped pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr import Array, Group
from zarr.codecs import Crc32cCodec, ZstdCodec

from store.format.arrays import damaged_table, read_array, read_text
from store.format.codec import KEEP_ZEROS
from store.location.base import Location
from store.pairs.table import Pair, Registration, Skipped, Table, check_distinct
from store.schema import Box, SchemaError, Split, StoreError

CHUNK = 4096  # rows that are read at once
TEXT = ("id", "slide", "he", "ihc")
OWN_TEXT = ("ihc_id", "ihc_slide")  # of unpaired stores
DIGESTS = ("he_digest", "ihc_digest")
BOXES = ("he_box", "ihc_box")  # these, shift and confidence are there if the pairs have them
SHIFT, CONFIDENCE = "shift", "confidence"
SKIPPED = ("id", "split", "he", "ihc", "reason")


def write_tables(group: Group, table: Table) -> None:
    """Write `<split>/pair/…` for every split that has pairs, and `skipped/…`."""
    for split, pairs in table.pairs.items():
        for name in (*TEXT, *(OWN_TEXT if any(pair.ihc_id for pair in pairs) else ())):
            write_text(group, f"{split}/pair/{name}", [getattr(pair, name) for pair in pairs])
        for name in DIGESTS:
            digests = np.array([list(bytes.fromhex(getattr(pair, name))) for pair in pairs], np.uint8)
            write_numbers(group, f"{split}/pair/{name}", digests, ("pair", "byte"))
        _write_boxes(group, split, pairs)
        _write_registration(group, split, pairs)
    for name in SKIPPED:
        write_text(group, f"skipped/{name}", [getattr(skipped, name) for skipped in table.skipped])


def read_pairs(location: Location, split: Split) -> tuple[Pair, ...]:
    """The pair table of a split, in the order of its rows."""
    named = (*TEXT, *(OWN_TEXT if location.exists(f"{split}/pair/{OWN_TEXT[0]}/zarr.json") else ()))
    text = {name: read_text(location, f"{split}/pair/{name}") for name in named}
    digests = {name: _read_digests(location, f"{split}/pair/{name}") for name in DIGESTS}
    columns: dict[str, list[Any]] = text | digests | _read_boxes(location, split) | _read_registration(location, split)
    rows = _rows(location, f"{split}/pair", list(columns.values()))
    try:
        pairs = tuple(Pair(**dict(zip(columns, row, strict=True))) for row in rows)
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


def _rows(location: Location, path: str, columns: list[list[Any]]) -> list[tuple[Any, ...]]:
    """The rows of columns. Raises StoreError if the columns differ in length."""
    if len({len(column) for column in columns}) > 1:
        raise damaged_table(location, path, "its columns differ in length")
    return list(zip(*columns, strict=True))


def _write_boxes(group: Group, split: Split, pairs: Sequence[Pair]) -> None:
    """The squares of the source pictures, i32 [pair, (top, left, side)] for each stain, if tiles were cut from them."""
    for name in BOXES:
        boxes = [getattr(pair, name) for pair in pairs]
        if any(boxes):
            tiles = [getattr(pair, name.removesuffix("_box")) for pair in pairs]
            assert all(box for box, tile in zip(boxes, tiles, strict=True) if tile), f"{split}: {name} of some only"
            rows = np.array([(box.top, box.left, box.side) if box else (0, 0, 0) for box in boxes], np.int32)
            write_numbers(group, f"{split}/pair/{name}", rows, ("pair", "top left side"))


def _write_registration(group: Group, split: Split, pairs: Sequence[Pair]) -> None:
    """Shifts in px, i32 [pair, (down, right)], and confidence in per cent, i32 [pair], if they were measured."""
    measured = [pair.registration for pair in pairs if pair.registration]
    if measured:
        assert len(measured) == len(pairs), f"{split}: registration of some pairs only"
        shifts = np.array([(one.down, one.right) for one in measured], np.int32)
        write_numbers(group, f"{split}/pair/{SHIFT}", shifts, ("pair", "down right"))
        percents = np.array([one.percent for one in measured], np.int32)
        write_numbers(group, f"{split}/pair/{CONFIDENCE}", percents, ("pair",))


def _read_boxes(location: Location, split: Split) -> dict[str, list[Any]]:
    """The columns of squares that a table has."""
    columns: dict[str, list[Any]] = {}
    for name in BOXES:
        if rows := _read_numbers(location, f"{split}/pair/{name}", (3,)):
            columns[name] = [
                Box(top=int(top), left=int(left), side=int(side)) if side else None for top, left, side in rows
            ]
    return columns


def _read_registration(location: Location, split: Split) -> dict[str, list[Any]]:
    """The column of shifts, if a table has it."""
    shifts = _read_numbers(location, f"{split}/pair/{SHIFT}", (2,))
    percents = _read_numbers(location, f"{split}/pair/{CONFIDENCE}", ())
    if len(shifts) != len(percents):
        raise damaged_table(location, f"{split}/pair", "its columns differ in length")
    measured = zip(shifts, percents, strict=True)
    column = [Registration(down=down, right=right, percent=percent) for (down, right), percent in measured]
    return {"registration": column} if column else {}


def _read_numbers(location: Location, path: str, shape: tuple[int, ...]) -> list[Any]:
    """The rows of a column that a table may have; none if it has no such column."""
    if not location.exists(f"{path}/zarr.json"):
        return []
    rows = read_array(location, path)
    if rows.shape[1:] != shape:
        raise damaged_table(location, path, f"its rows have the shape {rows.shape[1:]} instead of {shape}")
    return list(rows.tolist())


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
    return group.create_array(  # makes the groups of the path too; asked for a group, zarr fails under `python -O`
        path,
        shape=shape,
        chunks=(min(max(shape[0], 1), CHUNK), *shape[1:]),
        dtype=dtype,
        compressors=[ZstdCodec(level=5), Crc32cCodec()],
        dimension_names=dimensions,
        config=KEEP_ZEROS,
        overwrite=True,
    )
