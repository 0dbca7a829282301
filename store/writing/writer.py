"""Write a store: create it, fill it unit by unit, seal it. After any interruption it resumes from its journal.

While `X.zarr` is being built, `X.zarr.journal/` is beside it: one entry for every unit whose shards are safely written,
and on a local disk the lock of the one process that builds. A unit is committed by its entry, which is written last.
Object storage has no locks: two builds of the same store write the same bytes there, or, on different devices, a store
that `store verify` finds damaged.
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
from store.writing.create import ready_to_write

ENTRY = ".json"  # the ending of a unit's entry in the journal: the digests of its shards, which are safely written
EXPECTED = ".expected"  # the ending of a note in the journal of a repair: the digests of a unit that the seal covers
WRITES = 16  # files of a unit that are written at the same time


class StoreWriter:
    """Writes units of an unfinished store. `open_writer` makes one; a worker in another process makes its own."""

    def __init__(self, address: Location | Path | str, manifest: Manifest) -> None:
        self.location = locate(address)
        self.manifest = manifest
        self._journal = self.location.beside(JOURNAL)

    def pending(self) -> list[Unit]:
        """The units that are not committed, or lost a shard after that, in order."""
        with disk_errors(self.location):
            entries, files = set(self._journal.names()), set(self.location.names())
        return [
            unit
            for unit in all_units(self.manifest)
            if unit.name + ENTRY not in entries
            or any(plan.shard_name(unit) not in files for plan in plan_arrays(self.manifest, unit.split))
        ]

    def is_committed(self, unit: Unit) -> bool:
        """Whether a unit is committed and has all its shards."""
        shards = (plan.shard_name(unit) for plan in plan_arrays(self.manifest, unit.split))
        with disk_errors(self.location):
            return self._journal.exists(unit.name + ENTRY) and all(self.location.exists(shard) for shard in shards)

    def write(self, unit: Unit, blocks: Mapping[str, NDArray[Any]], *, threads: int = 1) -> None:
        """Write the shards of a unit and commit it. `blocks` holds, by array path, the rows of the unit."""
        self.commit(unit, encode_unit(self.manifest, unit, blocks, threads=threads))

    def commit(self, unit: Unit, shards: Mapping[str, bytes]) -> None:
        """Write the shards of a unit, by file name, then its entry.

        Raises StoreError if that fails; on a local disk, which may be full, the shards are then removed.
        """
        digests = {
            plan.path: digest_bytes(shards[plan.shard_name(unit)]) for plan in plan_arrays(self.manifest, unit.split)
        }
        with disk_errors(self.location):
            self._check_expected(unit, digests)
            try:
                if self._journal.exists(unit.name + ENTRY):  # a shard of the unit was lost after it was committed
                    self._journal.remove(unit.name + ENTRY)
                with ThreadPoolExecutor(WRITES) as pool:  # a disk does many syncs in the time of one
                    list(pool.map(self.location.write, shards.keys(), shards.values()))
                self._journal.write(unit.name + ENTRY, json.dumps(digests, indent=1).encode())
            except OSError:
                self.location.discard(shards)
                raise

    def seal(self) -> str:
        """Write the digests and the seal, remove the journal, make the files read-only. Returns the seal."""
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
            self.manifest = replace(sealed, seal=draft.computed_seal())
            self.location.write(ROOT, root_document(self.manifest, files))
        finish_sealing(self.location)
        return self.manifest.seal

    def _digests(self, split: Split) -> NDArray[np.uint8]:
        """The digests of the shards of a split from the journal, u8 [unit, array, 32]."""
        paths = [plan.path for plan in plan_arrays(self.manifest, split)]
        units = [unit for unit in all_units(self.manifest) if unit.split is split]
        entries = [json.loads(self._journal.read(unit.name + ENTRY)) for unit in units]
        return np.array([[list(bytes.fromhex(entry[path])) for path in paths] for entry in entries], np.uint8)

    def _check_expected(self, unit: Unit, digests: Mapping[str, str]) -> None:
        """In a repair, a rebuilt unit must have the digests that the seal covers."""
        try:
            expected = json.loads(self._journal.read(unit.name + EXPECTED))
        except FileNotFoundError:
            return
        if changed := [path for path in digests if expected[path] != digests[path]]:
            raise StoreError(
                f"unit {unit.name} of {self.location} was rebuilt, but {', '.join(changed[:3])} has other bytes than "
                "the seal covers: weights, device, processor or libraries differ from those that made the store "
                f"({self.manifest.software}); repair it with those, or build a new store"
            )


def is_document(name: str) -> bool:
    """Whether a file is metadata, a pair table or a table of digests: its digest is in the root."""
    parts = name.split("/")
    table = parts[0] == "skipped" or (len(parts) > 2 and parts[1] == "pair")
    return name != ROOT and (parts[-1] == ROOT or table or is_digest_table(name))


def is_digest_table(name: str) -> bool:
    """Whether a file belongs to the table of digests of a split."""
    return name.split("/")[1:2] == ["unit"]


@contextmanager
def open_writer(address: Location | Path | str, manifest: Manifest, table: Table) -> Iterator[StoreWriter]:
    """Create the store, or resume an unfinished one with the same settings and the same sources.

    Raises StoreError if another build holds its lock, if it is sealed, if it was started with other settings or sources
    (the error has both values), or if it cannot be written; an error leaves nothing behind.
    """
    writer = StoreWriter(address, manifest)
    require(manifest.codec)
    with ready_to_write(writer.location, manifest, table):
        yield writer


def finish_sealing(address: Location | Path | str) -> None:
    """The last steps after the sealed root: no partial files, no write permission, no journal. Can be repeated."""
    location = locate(address)
    with disk_errors(location):
        location.remove_partial()  # of a worker that was killed while others continued
        location.make_read_only()
        location.beside(JOURNAL).remove_all()
