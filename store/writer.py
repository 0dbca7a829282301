"""Write a store: create it, fill it unit by unit, seal it. Cut off anywhere, it goes on from its journal.

Beside `X.zarr` stands `X.zarr.journal/` while it is being built: one entry for every unit whose shards are safely on
disk, and the lock of the one process that builds. A unit counts when its entry exists; the entry is written last.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from store.arrays import ArrayPlan, Unit, plan_arrays
from store.codec import encoding
from store.files import PARTIAL, digest_file, disk_errors, files_of, locked, sync, sync_all, write_whole
from store.manifest import ROOT, UNSEALED, Root, all_units, journal_of, read_root, root_document
from store.schema import Manifest, Split, StoreError, Table
from store.settings import differences, plain
from store.tables import KEEP_ZEROS, array_at, read_table, write_numbers, write_tables

LOCK = "lock"  # its name in the journal
WRITABLE = 0o222  # write permission of everybody


class StoreWriter:
    """The one writer of an unfinished store; `open_writer` is the way in."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._group = zarr.open_group(path, mode="r+")

    def pending(self) -> list[Unit]:
        """The units that are not committed yet, or that lost a shard since, in order."""
        return [unit for unit in all_units(self.manifest) if not self._is_committed(unit)]

    def write(self, unit: Unit, blocks: Mapping[str, NDArray[Any]]) -> None:
        """Write a unit's shards and commit it. `blocks` holds, by array path, the rows of the unit.

        A write that fails (a full disk) takes its shards away again and raises StoreError: the store stays as it was.
        """
        plans = plan_arrays(self.manifest, unit.split)
        for plan in plans:
            block, shape = blocks[plan.path], (len(unit.pairs), *plan.shape[1:])
            assert block.shape == shape, (plan.path, block.shape, shape)  # zarr would repeat a shorter block
            assert block.dtype == plan.dtype, (plan.path, block.dtype)  # zarr would cut 300 down to 44
        shards = {plan.path: self.path / plan.shard_name(unit) for plan in plans}
        with disk_errors(self.path):
            try:
                for plan in plans:
                    shards[plan.path].unlink(missing_ok=True)
                    array = array_at(self._group, plan.path).with_config(KEEP_ZEROS)
                    array[unit.first : unit.stop] = blocks[plan.path]
                sync_all(shards.values())
                digests = {path: digest_file(shard) for path, shard in shards.items()}
                write_whole(self._entry(unit), json.dumps(digests, indent=1).encode())
            except OSError:
                self._take_away(unit, plans)
                raise

    def seal(self) -> str:
        """Write the digests and the seal, drop the journal, make the files read-only. Returns the seal."""
        pending = self.pending()
        if pending:
            raise StoreError(
                f"{self.path} lacks {len(pending)} units, the first is {pending[0].name}: build them before sealing"
            )
        with disk_errors(self.path):
            for split in self.manifest.counts:
                self._write_digests(split)
            shards = {
                p.shard_name(unit) for unit in all_units(self.manifest) for p in plan_arrays(self.manifest, unit.split)
            }
            names = [name for name in files_of(self.path) if name not in shards and name != ROOT]
            files = {name: digest_file(self.path / name) for name in names}
            sync_all(self.path / name for name in names if "/unit/" in name)  # the others were when laid out
            sealed = replace(self.manifest, sealed=True, seal=UNSEALED)
            draft = Root(manifest=sealed, files=files, document=root_document(sealed, files))
            self.manifest = replace(sealed, seal=draft.seal())
            write_whole(self.path / ROOT, root_document(self.manifest, files))
        finish_sealing(self.path)
        return self.manifest.seal

    def _write_digests(self, split: Split) -> None:
        units = [unit for unit in all_units(self.manifest) if unit.split is split]
        paths = [plan.path for plan in plan_arrays(self.manifest, split)]
        entries = [json.loads(self._entry(unit).read_bytes()) for unit in units]
        digests = np.array([[list(bytes.fromhex(entry[path])) for path in paths] for entry in entries], np.uint8)
        array = write_numbers(self._group, f"{split}/unit/digest", digests, ("unit", "array", "byte"))
        array.attrs["arrays"] = paths

    def _take_away(self, unit: Unit, plans: list[ArrayPlan]) -> None:
        for plan in plans:
            shard = self.path / plan.shard_name(unit)
            for file in [shard, *shard.parent.glob(f"*{PARTIAL}")]:
                file.unlink(missing_ok=True)

    def _is_committed(self, unit: Unit) -> bool:
        plans = plan_arrays(self.manifest, unit.split)
        return self._entry(unit).exists() and all((self.path / plan.shard_name(unit)).exists() for plan in plans)

    def _entry(self, unit: Unit) -> Path:
        return journal_of(self.path) / f"{unit.name}.json"


@contextmanager
def open_writer(path: Path, manifest: Manifest, table: Table) -> Iterator[StoreWriter]:
    """Create the store, or go on with an unfinished one made from the same settings and the same sources.

    Raises StoreError when another build holds it, when it is sealed, when it was begun with other settings or sources
    (both values are named), or when the place cannot be written to; a refusal leaves nothing behind.
    """
    journal = journal_of(path)
    made = [folder for folder in (journal, *journal.parents) if not folder.exists()]
    with ExitStack() as stack:
        try:
            with disk_errors(path):
                journal.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(journal / LOCK, str(path)))
            with disk_errors(path):
                _prepare(path, manifest, table, new=journal in made)
        except BaseException:
            for folder in made:
                with suppress(OSError):  # another build is at work in it
                    folder.rmdir()
            raise
        yield StoreWriter(path, manifest)


def finish_sealing(path: Path) -> None:
    """What follows once the sealed root stands: no write permission, no journal. Harmless when repeated."""
    with disk_errors(path):
        for name in files_of(path):
            file = path / name
            if (mode := file.stat().st_mode) & WRITABLE:
                file.chmod(mode & ~WRITABLE)
    shutil.rmtree(journal_of(path), ignore_errors=True)


def _prepare(path: Path, manifest: Manifest, table: Table, *, new: bool) -> None:
    """Bring the store to where units can be written. A failure takes a journal away that is `new` or of no store."""
    try:
        if path.exists():
            _check_same(path, manifest, table)
        else:
            _create(path, manifest, table)
        for leftover in path.rglob(f"*{PARTIAL}"):
            leftover.unlink()
    except BaseException:
        if new or not path.exists():
            shutil.rmtree(journal_of(path), ignore_errors=True)
        raise


def _create(path: Path, manifest: Manifest, table: Table) -> None:
    """Lay out the whole store without its pictures beside its place, then rename it: a store exists or does not."""
    skeleton = journal_of(path) / "skeleton"
    shutil.rmtree(skeleton, ignore_errors=True)
    group = zarr.create_group(skeleton)
    for split in manifest.counts:
        for plan in plan_arrays(manifest, split):
            _create_array(group, plan)
    write_tables(group, table)
    write_whole(skeleton / ROOT, root_document(manifest, {}))
    sync_all(skeleton / name for name in files_of(skeleton))
    skeleton.rename(path)
    sync(path.parent)


def _create_array(group: zarr.Group, plan: ArrayPlan) -> None:
    parent, _, name = plan.path.rpartition("/")
    group.require_group(parent).create_array(
        name,
        shape=plan.shape,
        dtype=plan.dtype,
        chunks=plan.chunk,
        shards=plan.shard if plan.pictures else None,
        dimension_names=plan.dimensions,
        fill_value=0,
        config=KEEP_ZEROS,
        **encoding(plan),
    )


def _check_same(path: Path, manifest: Manifest, table: Table) -> None:
    """Refuse to go on with a store that is finished, or was begun with other settings or other sources."""
    begun = read_root(path).manifest
    if begun.sealed:
        raise StoreError(
            f"{path} is sealed; a finished store is never written to. Remove it first, or choose another STORE="
        )
    changed = differences(plain(begun), plain(manifest))
    if changed:
        raise StoreError(
            f"{path} was begun with other settings or other sources ({'; '.join(changed[:3])}); go back to the old, "
            f"remove the unfinished store and {journal_of(path).name} beside it, or choose another STORE="
        )
    before = read_table(zarr.open_group(path, mode="r"), tuple(manifest.counts))
    for split, pairs in table.pairs.items():
        for old, new in zip(before.pairs[split], pairs, strict=True):
            if old != new:
                rows = "; ".join(differences(asdict(old), asdict(new)))
                raise StoreError(
                    f"the sources of {path} changed since it was begun: pair {old.id!r} of {split}: {rows}; bring the "
                    f"old files back, or remove the unfinished store and {journal_of(path).name} beside it"
                )
    if before.skipped != table.skipped:
        raise StoreError(
            f"the pairs that {path} leaves out changed since it was begun; bring the old files back, "
            f"or remove the unfinished store and {journal_of(path).name} beside it"
        )
