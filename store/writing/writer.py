"""Write a store: create it, fill it unit by unit, seal it. After any interruption it resumes from its journal.

While `X.zarr` is being built, `X.zarr.journal/` is beside it: one entry for every unit whose shards are safely written,
and on a local disk the lock of the one process that builds. A unit is committed by its entry, which is written last.
Before the seal every file is read back: a document is compared with the plan, a shard with the entry of its unit.
Object storage has no locks: two builds of the same store write the same bytes there, or, on different devices, a store
that `store verify` finds damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.card.measured import Measured
from store.card.record import CARD, encode_card
from store.cli import say
from store.files import digest_bytes, disk_errors
from store.format.codec import Parts, require
from store.format.layout import Unit, plan_arrays
from store.format.manifest import COPY, JOURNAL, ROOT, all_units, root_bytes, seal_root
from store.format.shards import encode_digests, encode_unit, lay_out
from store.location.base import Location
from store.location.open import locate
from store.pairs.table import Table
from store.schema import Manifest, Split, StoreError
from store.verify import altered, describe, digest_table, verify
from store.writing.create import ready_to_write
from store.writing.journal import ENTRY, LOCK, Journal, digests_of
from store.writing.repair_checks import check_extra
from store.writing.resume import write_anew

NO_LAYOUT: Mapping[str, bytes] = {}
WRITES = 16  # files of a unit that are written at the same time


class UnitsLostError(StoreError):
    """Units must be built before the store can be sealed: they are missing, or were damaged after they were written."""

    def __init__(self, location: Location, units: Sequence[Unit]) -> None:
        super().__init__(
            f"{location} lacks {len(units)} units, the first is {units[0].name}: build them before sealing; if they "
            "were just built, the disk does not return what was written: check it"
        )
        self.units = tuple(units)


class StoreWriter:
    """Writes units of an unfinished store. `open_writer` makes one; a worker in another process makes its own."""

    def __init__(
        self,
        address: Location | Path | str,
        manifest: Manifest,
        layout: Mapping[str, bytes] = NO_LAYOUT,
        measured: Measured | None = None,
    ) -> None:
        self.location = locate(address)
        self.manifest = manifest
        self._layout = layout  # needed to seal
        self._measured = measured  # for the data card
        self._journal = Journal(self.location)

    def pending(self) -> list[Unit]:
        """The units that are not committed, or lost a shard after that, in order."""
        with disk_errors(self.location):
            entries, files = set(self._journal.place.names()), set(self.location.names())
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
            return bool(self._journal.entry(unit)) and all(self.location.exists(shard) for shard in shards)

    def write(self, unit: Unit, blocks: Mapping[str, NDArray[Any]], *, threads: int = 1) -> None:
        """Write the shards of a unit and commit it. `blocks` holds, by array path, the rows of the unit."""
        shards = encode_unit(self.manifest, unit, blocks, threads=threads)
        self.commit(unit, {name: (data,) for name, data in shards.items()})

    def commit(self, unit: Unit, shards: Mapping[str, Parts]) -> None:
        """Write the shards of a unit, by file name, then its entry.

        Raises StoreError if that fails; on a local disk, which may be full, the shards are then removed.
        """
        plans = plan_arrays(self.manifest, unit.split)
        with ThreadPoolExecutor(WRITES) as pool:
            ordered = list(pool.map(lambda plan: digest_bytes(*shards[plan.shard_name(unit)]), plans))
        digests = {plan.path: digest for plan, digest in zip(plans, ordered, strict=True)}
        with disk_errors(self.location):
            self._check_expected(unit, digests)
            try:
                self._journal.withdraw(unit)  # of shards that were damaged after they were committed
                with ThreadPoolExecutor(WRITES) as pool:  # a disk does many syncs in the time of one
                    list(pool.map(lambda name: self.location.write(name, *shards[name]), shards))
                self._journal.commit(unit, digests)
                self.location.forget(shards)  # nobody reads them soon; what is read back comes from the disk
            except OSError:
                self.location.discard(shards)
                raise

    def seal(self, watch: Callable[[list[Unit]], Iterable[Unit]] = iter) -> str:
        """Write the digests and the seal, remove the journal, make the files read-only. Returns the seal.

        Every file is read back first. Raises UnitsLostError if units must be built before: what is damaged is no longer
        committed then. A damaged document is written anew. `watch` may wrap the list of units in a progress bar.
        """
        assert self._layout, "a worker does not seal"
        with disk_errors(self.location):
            tables = self._read_back(watch)
            check_extra(self.location, self.manifest, self._layout)
            documents = {name: data for name, data in self._layout.items() if name != ROOT}
            write_anew(self.location, documents)
            for name, data in tables.items():
                self.location.write(name, data)
            root = seal_root(self.manifest, digests_of(documents | tables))
            if self._measured:
                self.location.write(CARD, encode_card(self._measured, root.manifest.seal))
            self.location.write(ROOT, root.document)
        old_seal, self.manifest = self._journal.old_seal(), root.manifest
        if old_seal and old_seal != root.manifest.seal:
            say(
                f"note: the seal of {self.location} was {old_seal} and is {root.manifest.seal}: what was lost was "
                "built differently"
            )
        _finish(self.location)
        return root.manifest.seal

    def _read_back(self, watch: Callable[[list[Unit]], Iterable[Unit]]) -> dict[str, bytes]:
        """The files of the tables of digests, after every shard was found to have the digest in its unit's entry."""
        rows: dict[Split, list[list[list[int]]]] = {split: [] for split in self.manifest.counts}
        lost: list[Unit] = []
        for unit in watch(all_units(self.manifest)):
            entry, plans = self._journal.entry(unit), plan_arrays(self.manifest, unit.split)
            shards = {plan.shard_name(unit): entry.get(plan.path, "") for plan in plans}
            if not entry or altered(self.location, shards):
                self._journal.withdraw(unit)
                lost.append(unit)
            else:
                rows[unit.split].append([list(bytes.fromhex(digest)) for digest in shards.values()])
            self.location.forget(shards)
        if lost:
            raise UnitsLostError(self.location, lost)
        return {
            name: data
            for split, digests in rows.items()
            for name, data in encode_digests(self.manifest, split, np.array(digests, np.uint8)).items()
        }

    def _check_expected(self, unit: Unit, digests: Mapping[str, str]) -> None:
        """In a repair, a rebuilt unit must have the digests that the seal covers."""
        expected = self._journal.expected(unit) or self._expected_by_table(unit)
        if changed := [path for path in digests if expected and expected.get(path) != digests[path]]:
            raise StoreError(
                f"unit {unit.name} of {self.location} was rebuilt, but {', '.join(changed[:3])} has other bytes than "
                "the seal covers: weights, device, processor or libraries differ from those that made the store "
                f"({self.manifest.software}); repair it with those, or build a new store"
            )

    def _expected_by_table(self, unit: Unit) -> dict[str, str]:
        """What a repair has in the table of digests of the store, where the note in the journal is damaged."""
        if not self._journal.repairs():
            return {}
        table = digest_table(self.location, self.manifest, {}, unit.split)
        plans = plan_arrays(self.manifest, unit.split)
        return {plan.path: table[unit.index, n].tobytes().hex() for n, plan in enumerate(plans)} if table.size else {}


@contextmanager
def open_writer(
    address: Location | Path | str, manifest: Manifest, table: Table, measured: Measured | None = None
) -> Iterator[StoreWriter]:
    """Create the store, or resume an unfinished one with the same settings and the same sources.

    What was `measured` on the pictures is kept for the data card, outside the seal.

    Raises StoreError if another build holds its lock, if it is sealed, if it was started with other settings or sources
    (the error has both values), or if it cannot be written; an error leaves nothing behind.
    """
    require(manifest.codec)
    location, layout = locate(address), lay_out(manifest, table)
    with ready_to_write(location, manifest, table, layout):
        yield StoreWriter(location, manifest, layout, measured)


def finish_sealing(address: Location | Path | str) -> None:
    """The last steps after the sealed root, if they were interrupted. Can be repeated.

    Raises StoreError if another process builds or repairs the store, or if it was damaged after the interruption.
    """
    location = locate(address)
    with disk_errors(location):
        begun = next(location.beside(JOURNAL).names(), None)
    with location.beside(JOURNAL).lock(LOCK, str(location)) if begun else nullcontext():
        if Journal(location).used():  # nobody has read the store since it was sealed
            findings = verify(location)
            if not findings.intact:
                raise StoreError(describe(location, findings).splitlines()[0])
        _finish(location)


def _finish(location: Location) -> None:
    """A copy of the root, no partial files, no write permission, no journal."""
    journal = Journal(location)
    with disk_errors(location):
        document = root_bytes(location)
        if journal.used() and root_bytes(location, COPY) != document:  # a finished store may be on a read-only disk
            location.write(COPY, document)
        location.remove_partial()  # of a worker that was killed while others continued
        location.make_read_only()
        journal.clear()  # the lock is removed last
        journal.place.remove_all()
