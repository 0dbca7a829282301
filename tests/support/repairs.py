"""Repairs of the small store, and the files of it that tests damage."""

from __future__ import annotations

from pathlib import Path

from store.schema import Manifest
from store.writing.repair import Repair, start_repair
from store.writing.writer import finish_sealing, open_writer
from tests.support.stores import small_blocks, small_manifest, small_table

ROOT, DIGESTS = "zarr.json", "test/unit/digest/c/0/0/0"
X2, BOX, TILE = "train/x2/he/c/1/0/0/0/0", "test/x4/box/c/0/0/0", "test/tile/ihc/c/1/0/0/0"  # shards


def finish(path: Path, repaired: Repair, manifest: Manifest | None = None) -> list[str]:
    """Build the pending units of a repair and seal the store; returns the names of those units."""
    if repaired.manifest.sealed:  # nothing was damaged
        finish_sealing(path)
        return []
    with open_writer(path, repaired.manifest, small_table()) as writer:
        pending = writer.pending()
        for unit in pending:
            writer.write(unit, small_blocks(manifest or repaired.manifest, unit))
        writer.seal()
    return [unit.name for unit in pending]


def repair(path: Path) -> tuple[Repair, list[str]]:
    """Repair the store at `path` completely; returns what was damaged, and the names of the units that were built."""
    repaired = start_repair(path, small_manifest(), small_table())
    return repaired, finish(path, repaired)
