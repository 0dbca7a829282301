"""Stores in a bucket: what is in it, and builds that stop after some units."""

from __future__ import annotations

from pathlib import Path

from store.location.base import Location
from store.location.open import locate
from store.pairs.table import Table
from store.schema import Manifest
from store.writing.writer import open_writer
from tests.support.stores import small_blocks, small_manifest, small_table


def objects(place: Location | Path | str) -> dict[str, bytes]:
    """Every object, or file, of a store and of its journal."""
    store = locate(place)
    return {
        f"{part.name}/{name}": part.read(name) for part in (store, store.beside(".journal")) for name in part.names()
    }


def begin(address: str, units: int, manifest: Manifest | None = None, table: Table | None = None) -> None:
    """Build the first `units` units of the small store and stop."""
    manifest = manifest or small_manifest()
    with open_writer(address, manifest, table or small_table()) as writer:
        for unit in writer.pending()[:units]:
            writer.write(unit, small_blocks(manifest, unit))
