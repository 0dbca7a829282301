"""The pair tables of a store: who the rows are, and which pairs were left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from zarr import Array, Group
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from store.schema import Pair, Skipped, Split, StoreError, Table

if TYPE_CHECKING:
    from zarr.core.array_spec import ArrayConfigParams

KEEP_ZEROS: ArrayConfigParams = {"write_empty_chunks": True}  # of a handle: an array that is opened again forgets it
CHUNK = 4096  # rows that are read at once
TEXT = ("id", "slide", "he", "ihc")
DIGESTS = ("he_digest", "ihc_digest")
SKIPPED = ("id", "split", "he", "ihc", "reason")


def write_tables(group: Group, table: Table) -> None:
    """Write `<split>/pair/…` for every split that has pairs, and `skipped/…`."""
    for split, pairs in table.pairs.items():
        for name in TEXT:
            _write_text(group, f"{split}/pair/{name}", [getattr(pair, name) for pair in pairs])
        for name in DIGESTS:
            digests = np.array([list(bytes.fromhex(getattr(pair, name))) for pair in pairs], np.uint8)
            write_numbers(group, f"{split}/pair/{name}", digests, ("pair", "byte"))
    for name in SKIPPED:
        _write_text(group, f"skipped/{name}", [getattr(skipped, name) for skipped in table.skipped])


def read_pairs(group: Group, split: Split) -> tuple[Pair, ...]:
    """The pair table of a split, in the order of its rows."""
    text = {name: _read_text(group, f"{split}/pair/{name}") for name in TEXT}
    digests = {name: _read_digests(group, f"{split}/pair/{name}") for name in DIGESTS}
    rows = zip(*text.values(), *digests.values(), strict=True)
    return tuple(Pair(**dict(zip((*TEXT, *DIGESTS), row, strict=True))) for row in rows)


def read_skipped(group: Group) -> tuple[Skipped, ...]:
    """The pairs that were left out of the store, and why."""
    columns = [_read_text(group, f"skipped/{name}") for name in SKIPPED]
    return tuple(
        Skipped(id=id_, split=Split(split), he=he, ihc=ihc, reason=reason)
        for id_, split, he, ihc, reason in zip(*columns, strict=True)
    )


def read_table(group: Group, splits: tuple[Split, ...]) -> Table:
    """All pair tables of a store."""
    return Table(pairs={split: read_pairs(group, split) for split in splits}, skipped=read_skipped(group))


def array_at(group: Group, path: str) -> Array[Any]:
    """The array at `path`. Raises StoreError if it is missing or its metadata are damaged."""
    try:
        found = group[path]
    except (KeyError, ValueError) as error:
        raise _damaged(group, path, "its metadata are missing or damaged") from error
    assert isinstance(found, Array), path
    return found


def read_array(group: Group, path: str) -> NDArray[Any]:
    """A whole table. Raises StoreError if a part is missing, for which zarr would hand out zeros, or was altered."""
    array = array_at(group, path)
    if array.nchunks_initialized < array.nchunks:
        raise _damaged(group, path, f"{array.nchunks - array.nchunks_initialized} of {array.nchunks} files are missing")
    try:
        return np.asarray(array[...])
    except (ValueError, RuntimeError, OSError) as error:
        raise _damaged(group, path, str(error)) from error


def _damaged(group: Group, path: str, reason: str) -> StoreError:
    place = group.store.root if isinstance(group.store, LocalStore) else group.store
    return StoreError(
        f"table {path} of {place} cannot be read ({reason}); `python -m store verify {place}` lists all damage"
    )


def write_numbers(group: Group, path: str, values: NDArray[Any], dimensions: tuple[str, ...]) -> Array[Any]:
    """Write a table of numbers in chunks of rows; an older one of that name is replaced."""
    array = _create(group, path, values.shape, values.dtype, dimensions)
    array[...] = values
    return array


def _read_text(group: Group, path: str) -> list[str]:
    return [str(value) for value in read_array(group, path)]


def _read_digests(group: Group, path: str) -> list[str]:
    return [row.tobytes().hex() for row in read_array(group, path)]


def _write_text(group: Group, path: str, values: list[str]) -> None:
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
