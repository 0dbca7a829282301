"""Write a store: create it, fill it unit by unit, seal it. Cut off anywhere, it goes on from its journal.

Beside `X.zarr` stands `X.zarr.journal/` while it is being built: one entry for every unit whose shards are safely
written, and on a local disk the lock of the one process that builds. A unit counts when its entry exists; the entry is
written last. Object storage has no locks: two builds of the same store there write the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from store.arrays import Unit, plan_arrays
from store.files import PARTIAL, disk_errors, locked, sync, sync_all
from store.location import Folder, Location, digest_bytes, locate
from store.manifest import JOURNAL, ROOT, UNSEALED, Root, all_units, read_root, root_document
from store.schema import Manifest, Split, StoreError, Table
from store.settings import differences, plain
from store.shards import encode_digests, encode_unit, lay_out
from store.tables import read_table

LOCK = "lock"  # its name in the journal
EXPECTED = ".expected"  # behind a unit's name in the journal of a repair: the digests that the seal covers
BEGUN = "begun"  # in the journal of a store in a bucket, where a layout cannot appear at once


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
            if _entry(unit) not in entries
            or any(plan.shard_name(unit) not in files for plan in plan_arrays(self.manifest, unit.split))
        ]

    def is_committed(self, unit: Unit) -> bool:
        """Whether a unit is written and counts."""
        return self._journal.exists(_entry(unit))

    def write(self, unit: Unit, blocks: Mapping[str, NDArray[Any]]) -> None:
        """Write a unit's shards and commit it. `blocks` holds, by array path, the rows of the unit."""
        self.commit(unit, encode_unit(self.manifest, unit, blocks))

    def commit(self, unit: Unit, shards: Mapping[str, bytes]) -> None:
        """Write the shards of a unit, by file name, then its entry.

        A write that fails (a full disk) takes its shards away again and raises StoreError: the store stays as it was.
        """
        digests = {
            plan.path: digest_bytes(shards[plan.shard_name(unit)]) for plan in plan_arrays(self.manifest, unit.split)
        }
        self._check_expected(unit, digests)
        with disk_errors(self.location):
            try:
                for name, data in shards.items():
                    self.location.write(name, data)
                self._journal.write(_entry(unit), json.dumps(digests, indent=1).encode())
            except OSError:
                for name in shards:
                    with suppress(OSError):
                        self.location.remove(name)
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
        entries = [json.loads(self._journal.read(_entry(unit))) for unit in units]
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
                "otherwise than the seal says: other weights, device or versions of libraries than "
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
    location = locate(address)
    if isinstance(location, Folder):
        with _held(location, manifest, table):
            yield StoreWriter(location, manifest)
    else:
        with disk_errors(location):
            _prepare_bucket(location, manifest, table)
        yield StoreWriter(location, manifest)


def finish_sealing(address: Location | Path | str) -> None:
    """What follows once the sealed root stands: no write permission, no journal. Harmless when repeated."""
    location = locate(address)
    with disk_errors(location):
        if isinstance(location, Folder):
            location.protect()
        location.beside(JOURNAL).remove_all()


@contextmanager
def _held(location: Folder, manifest: Manifest, table: Table) -> Iterator[None]:
    """Lock a store on a local disk and bring it to where units can be written."""
    journal = location.beside(JOURNAL).path
    made = [folder for folder in (journal, *journal.parents) if not folder.exists()]
    with ExitStack() as stack:
        try:
            with disk_errors(location):
                journal.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(journal / LOCK, str(location)))
            with disk_errors(location):
                _prepare_folder(location, manifest, table, new=journal in made)
        except BaseException:
            for folder in made:
                with suppress(OSError):  # another build is at work in it
                    folder.rmdir()
            raise
        yield


def _prepare_folder(location: Folder, manifest: Manifest, table: Table, *, new: bool) -> None:
    """Check or create. A failure takes a journal away that is `new` or of no store."""
    try:
        if location.path.exists():
            _check_same(location, manifest, table)
        else:
            _create_folder(location, lay_out(manifest, table))
        for folder in (location.path, location.beside(JOURNAL).path):
            for leftover in folder.rglob(f"*{PARTIAL}"):
                leftover.unlink(missing_ok=True)
    except BaseException:
        if new or not location.path.exists():
            location.beside(JOURNAL).remove_all()
        raise


def _create_folder(location: Folder, files: Mapping[str, bytes]) -> None:
    """Lay out the whole store without its pictures beside its place, then rename it: a store exists or does not."""
    skeleton = Folder(location.beside(JOURNAL).path / "skeleton")
    skeleton.remove_all()
    for name, data in files.items():
        file = skeleton.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    sync_all(skeleton.path / name for name in files)
    skeleton.path.rename(location.path)
    sync(location.path.parent)


def _prepare_bucket(location: Location, manifest: Manifest, table: Table) -> None:
    """Check or create; the root is put last, so that a store exists when all of its layout does."""
    journal = location.beside(JOURNAL)
    if location.exists(ROOT):
        _check_same(location, manifest, table)
        return
    if next(location.names(), None) is not None and not journal.exists(BEGUN):
        raise StoreError(f"{location} holds objects and is no store: it has no {ROOT}; choose another STORE=")
    journal.write(BEGUN, b"")
    files = lay_out(manifest, table)
    for name in sorted(files, key=lambda name: name == ROOT):
        location.write(name, files[name])


def _check_same(location: Location, manifest: Manifest, table: Table) -> None:
    """Refuse to go on with a store that is finished, or was begun with other settings or other sources."""
    begun, journal = read_root(location).manifest, location.beside(JOURNAL).name
    if begun.sealed:
        raise StoreError(
            f"{location} is sealed; a finished store is never written to. Remove it first, or choose another STORE="
        )
    changed = differences(plain(begun), plain(manifest))
    if changed:
        raise StoreError(
            f"{location} was begun with other settings or other sources ({'; '.join(changed[:3])}); go back to the "
            f"old, remove the unfinished store and {journal} beside it, or choose another STORE="
        )
    remedy = f"bring the old files back, or remove the unfinished store and {journal} beside it"
    before = read_table(zarr.open_group(location.zarr_store(), mode="r"), tuple(manifest.counts))
    for split, pairs in table.pairs.items():
        for old, new in zip(before.pairs[split], pairs, strict=True):
            if old != new:
                rows = "; ".join(differences(asdict(old), asdict(new)))
                raise StoreError(
                    f"the sources of {location} changed since it was begun: pair {old.id!r} of {split}: {rows}; "
                    f"{remedy}"
                )
    if before.skipped != table.skipped:
        raise StoreError(f"the pairs that {location} leaves out changed since it was begun; {remedy}")


def _entry(unit: Unit) -> str:
    return f"{unit.name}.json"
