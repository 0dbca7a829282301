"""Write a store: create it, fill it unit by unit, seal it. Cut off anywhere, it goes on from its journal.

Beside `X.zarr` stands `X.zarr.journal/` while it is being built: one entry for every unit whose shards are safely
written, and on a local disk the lock of the one process that builds. A unit counts when its entry exists; the entry is
written last. Object storage has no locks: two builds of the same store there write the same bytes, or, on unlike
devices, a store that `store verify` finds damaged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.files import digest_bytes, disk_errors
from store.format.codec import require
from store.format.layout import Unit, plan_arrays
from store.format.manifest import JOURNAL, ROOT, UNSEALED, Root, all_units, root_document
from store.format.shards import encode_digests, encode_unit
from store.location.base import Location
from store.location.open import locate
from store.schema import Manifest, Split, StoreError, Table
from store.writing.create import prepared

ENTRY = ".json"  # behind a unit's name in the journal: the digests of its shards, which are safely written
EXPECTED = ".expected"  # behind a unit's name in the journal of a repair: the digests that the seal covers
WRITES = 16  # files of a unit on their way at once


class StoreWriter:
    """Writes units of an unfinished store. `open_writer` is the way in; a helper in another process makes its own."""

    def __init__(self, address: Location | Path | str, manifest: Manifest) -> None:
        self.location = locate(address)
        self.manifest = manifest
        self._journal = self.location.beside(JOURNAL)

    def pending(self) -> list[Unit]:
        """The units that are not committed yet, or that lost a shard since, in order."""
        with disk_errors(self.location):
            entries, files = set(self._journal.names()), set(self.location.names())
        return [
            unit
            for unit in all_units(self.manifest)
            if unit.name + ENTRY not in entries
            or any(plan.shard_name(unit) not in files for plan in plan_arrays(self.manifest, unit.split))
        ]

    def is_committed(self, unit: Unit) -> bool:
        """Whether a unit is written and counts."""
        shards = (plan.shard_name(unit) for plan in plan_arrays(self.manifest, unit.split))
        with disk_errors(self.location):
            return self._journal.exists(unit.name + ENTRY) and all(self.location.exists(shard) for shard in shards)

    def write(self, unit: Unit, blocks: Mapping[str, NDArray[Any]], *, threads: int = 1) -> None:
        """Write a unit's shards and commit it. `blocks` holds, by array path, the rows of the unit."""
        self.commit(unit, encode_unit(self.manifest, unit, blocks, threads=threads))

    def commit(self, unit: Unit, shards: Mapping[str, bytes]) -> None:
        """Write the shards of a unit, by file name, then its entry.

        A write that fails raises StoreError; on a local disk, which may be full, it takes its shards away again.
        """
        digests = {
            plan.path: digest_bytes(shards[plan.shard_name(unit)]) for plan in plan_arrays(self.manifest, unit.split)
        }
        with disk_errors(self.location):
            self._check_expected(unit, digests)
            try:
                if self._journal.exists(unit.name + ENTRY):  # of shards of which some were lost since
                    self._journal.remove(unit.name + ENTRY)
                with ThreadPoolExecutor(WRITES) as pool:  # a disk answers many syncs as fast as one
                    list(pool.map(self.location.write, shards.keys(), shards.values()))
                self._journal.write(unit.name + ENTRY, json.dumps(digests, indent=1).encode())
            except OSError:
                self.location.discard(shards)
                raise

    def seal(self) -> str:
        """Write the digests and the seal, drop the journal, make the files read-only. Returns the seal."""
        pending = self.pending()
        if pending:
            raise StoreError(
                f"{self.location} lacks {len(pending)} units, the first is {pending[0].name}: build them before sealing"
            )
        with disk_errors(self.location):
            for split in self.manifest.counts:
                for name, data in encode_digests(self.manifest, split, self._digests(split)).items():
                    self.location.write(name, data)
            files = {name: self.location.digest(name) for name in self.location.names() if is_document(name)}
            sealed = replace(self.manifest, sealed=True, seal=UNSEALED)
            draft = Root(manifest=sealed, files=files, document=root_document(sealed, files))
            self.manifest = replace(sealed, seal=draft.seal())
            self.location.write(ROOT, root_document(self.manifest, files))
        finish_sealing(self.location)
        return self.manifest.seal

    def _digests(self, split: Split) -> NDArray[np.uint8]:
        """The digests of a split's shards from the journal, u8 [unit, array, 32]."""
        paths = [plan.path for plan in plan_arrays(self.manifest, split)]
        units = [unit for unit in all_units(self.manifest) if unit.split is split]
        entries = [json.loads(self._journal.read(unit.name + ENTRY)) for unit in units]
        return np.array([[list(bytes.fromhex(entry[path])) for path in paths] for entry in entries], np.uint8)

    def _check_expected(self, unit: Unit, digests: Mapping[str, str]) -> None:
        """In a repair, what is built again must be what the seal covers."""
        try:
            expected = json.loads(self._journal.read(unit.name + EXPECTED))
        except FileNotFoundError:
            return
        if changed := [path for path in digests if expected[path] != digests[path]]:
            raise StoreError(
                f"unit {unit.name} of {self.location} was built again, but {', '.join(changed[:3])} came out "
                "otherwise than the seal says: other weights, device, processor or versions of libraries than "
                f"{self.manifest.software} made it; repair it with these, or build the whole store again"
            )


def is_document(name: str) -> bool:
    """Whether a file is metadata, a pair table or a table of digests: what the root names with its digest."""
    parts = name.split("/")
    table = parts[0] == "skipped" or (len(parts) > 2 and parts[1] == "pair")
    return name != ROOT and (parts[-1] == ROOT or table or is_digest_table(name))


def is_digest_table(name: str) -> bool:
    """Whether a file belongs to a split's table of digests."""
    return name.split("/")[1:2] == ["unit"]


@contextmanager
def open_writer(address: Location | Path | str, manifest: Manifest, table: Table) -> Iterator[StoreWriter]:
    """Create the store, or go on with an unfinished one made from the same settings and the same sources.

    Raises StoreError when another build holds it, when it is sealed, when it was begun with other settings or sources
    (both values are named), or when the place cannot be written to; a refusal leaves nothing behind.
    """
    require(manifest.codec)
    location = locate(address)
    with prepared(location, manifest, table):
        yield StoreWriter(location, manifest)


def finish_sealing(address: Location | Path | str) -> None:
    """What follows once the sealed root stands: no leftovers, no write permission, no journal. Can be repeated."""
    location = locate(address)
    with disk_errors(location):
        location.sweep()  # of a helper that was killed while others went on
        location.protect()
        location.beside(JOURNAL).remove_all()
