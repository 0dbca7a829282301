"""Check that an unfinished store is resumed with the settings and sources that it was started with; undo its damage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

from store.cli import say
from store.format.manifest import JOURNAL, ROOT, is_sealed, read_root
from store.format.tables import read_table
from store.location.base import Location
from store.pairs.table import Pair, Table
from store.schema import Manifest, StoreError
from store.settings import differences, plain
from store.verify import agrees, altered
from store.writing.journal import Journal, digests_of
from store.writing.repair_checks import check_extra

LISTED = 5  # files in a line


def check_same(location: Location, manifest: Manifest, table: Table, layout: Mapping[str, bytes]) -> None:
    """Raise StoreError if the store is finished, or was started with other settings or other sources.

    Where the journal says that it was started with this layout, whatever differs in the store is damage; otherwise the
    root and the pair tables decide.
    """
    if is_sealed(location):
        raise StoreError(
            f"{location} is sealed; a finished store is never written to. Remove it first, or choose another STORE="
        )
    if Journal(location).begun() != digests_of(layout):
        _compare(location, manifest, table)
    check_extra(location, manifest, layout)


def has_lost_root(location: Location) -> bool:
    """Whether the root of an unfinished store is not the one that was begun, as far as its journal says."""
    begun = Journal(location).begun()
    return bool(begun) and not agrees(location, ROOT, begun[ROOT]) and not is_sealed(location)


def _compare(location: Location, manifest: Manifest, table: Table) -> None:
    """Raise StoreError if root or pair tables of an unfinished store are not those of manifest and table."""
    journal = location.beside(JOURNAL).name
    with _lost(location):
        started = read_root(location).manifest
    changed = differences(plain(started), plain(manifest))
    if changed:
        raise StoreError(
            f"{location} was started with other settings or other sources ({'; '.join(changed[:3])}); use the old "
            f"ones, remove the unfinished store and {journal} beside it, or choose another STORE="
        )
    remedy = f"restore the old files, or remove the unfinished store and {journal} beside it"
    with _lost(location):
        before = read_table(location, tuple(manifest.counts))
        for split, pairs in table.pairs.items():
            if len(before.pairs[split]) != len(pairs):
                raise StoreError(f"table {split}/pair has {len(before.pairs[split])} rows instead of {len(pairs)}")
    for split, pairs in table.pairs.items():
        for old, new in zip(before.pairs[split], pairs, strict=True):
            if old != new:
                raise StoreError(
                    f"the sources of {location} changed since it was started: pair {old.id!r} of {split}: "
                    f"{_changes(old, new)}; {remedy}"
                )
    if before.skipped != table.skipped:
        raise StoreError(f"the skipped pairs of {location} changed since it was started; {remedy}")


@contextmanager
def _lost(location: Location) -> Iterator[None]:
    """Say what to do if an unfinished store cannot be read, and its journal does not say what was begun."""
    try:
        yield
    except StoreError as error:
        journal = Journal(location)
        if not journal.used():
            raise  # nothing was ever built here
        raise StoreError(
            f"{location} is unfinished and damaged ({error}), and {journal.place.name} does not say that it was "
            "started with these settings and tiles: give those that it was started with, or remove both and run the "
            "same command again"
        ) from error


def write_anew(location: Location, files: Mapping[str, bytes]) -> list[str]:
    """Write those of these files that are missing or have other bytes, and say so; returns their names."""
    damaged = altered(location, digests_of(files))
    for name in damaged:
        location.write(name, files[name])
    if damaged:
        more = ", …" if len(damaged) > LISTED else ""
        say(f"{location}: {len(damaged)} damaged file(s) are written again: {', '.join(damaged[:LISTED])}{more}")
    return damaged


def _changes(old: Pair, new: Pair) -> str:
    """The fields of a pair that differ, each with both values."""
    both = [(field.name, getattr(old, field.name), getattr(new, field.name)) for field in fields(Pair)]
    return "; ".join(f"{name}: {json.dumps(a)} -> {json.dumps(b)}" for name, a, b in both if a != b)
