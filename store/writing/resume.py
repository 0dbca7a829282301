"""Check that an unfinished store is resumed with the settings and sources that it was started with."""

from __future__ import annotations

import json
from dataclasses import fields

from store.format.manifest import JOURNAL, read_root
from store.format.tables import read_table
from store.location.base import Location
from store.schema import Manifest, Pair, StoreError, Table
from store.settings import differences, plain


def check_same(location: Location, manifest: Manifest, table: Table) -> None:
    """Raise StoreError if the store is finished, or was started with other settings or other sources."""
    started, journal = read_root(location).manifest, location.beside(JOURNAL).name
    if started.sealed:
        raise StoreError(
            f"{location} is sealed; a finished store is never written to. Remove it first, or choose another STORE="
        )
    changed = differences(plain(started), plain(manifest))
    if changed:
        raise StoreError(
            f"{location} was started with other settings or other sources ({'; '.join(changed[:3])}); use the old "
            f"ones, remove the unfinished store and {journal} beside it, or choose another STORE="
        )
    remedy = f"restore the old files, or remove the unfinished store and {journal} beside it"
    before = read_table(location, tuple(manifest.counts))
    for split, pairs in table.pairs.items():
        for old, new in zip(before.pairs[split], pairs, strict=True):
            if old != new:
                raise StoreError(
                    f"the sources of {location} changed since it was started: pair {old.id!r} of {split}: "
                    f"{_changes(old, new)}; {remedy}"
                )
    if before.skipped != table.skipped:
        raise StoreError(f"the skipped pairs of {location} changed since it was started; {remedy}")


def _changes(old: Pair, new: Pair) -> str:
    """The fields of a pair that differ, each with both values."""
    both = [(field.name, getattr(old, field.name), getattr(new, field.name)) for field in fields(Pair)]
    return "; ".join(f"{name}: {json.dumps(a)} -> {json.dumps(b)}" for name, a, b in both if a != b)
