"""Repair a damaged store: make it an unfinished one without the damaged units, which the ordinary build finishes.

Intact files stay. A rebuilt unit must have the digests that the seal covers; a store whose root is intact ends with the
seal it had. After any interruption the same command resumes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.files import PARTIAL, digest_bytes, disk_errors
from store.format.layout import Unit, plan_arrays, plan_units
from store.format.manifest import JOURNAL, ROOT, all_units, recorded_seal
from store.format.shards import encode_digests, lay_out
from store.location.base import Location
from store.location.open import locate
from store.schema import Manifest, Split, Table
from store.verify import agrees, digest_table
from store.writing.create import LOCK
from store.writing.repair_checks import check_extra, check_plan, check_sources, intact_root, root_bytes
from store.writing.writer import ENTRY, EXPECTED, StoreWriter, is_digest_table

OLD_SEAL = "repair"  # in the journal: the seal of the store before its repair, empty if it is lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """The units to rebuild, the manifest to build them with, and the seal of the store before (empty if it is lost).

    `documents` are the damaged files without pictures: they are rewritten, now or when the store is sealed. The
    manifest is sealed if nothing is damaged.
    """

    manifest: Manifest
    units: tuple[Unit, ...]
    documents: tuple[str, ...]
    old_seal: str


def start_repair(
    address: Location | Path | str,
    planned: Manifest,
    table: Table,
    watch: Callable[[list[Unit]], Iterable[Unit]] = iter,
) -> Repair:
    """Find what is damaged and make the store an unfinished one without it; the journal lists the intact units.

    `planned` and `table` are what a build of the same tiles would write; the manifest of the store is kept if its root
    is intact. `watch` may wrap the list of units in a progress bar. Raises StoreError if tiles or settings are not
    those of this store, or if it holds other files; everything is read before anything is written.
    """
    location = locate(address)
    root = intact_root(location)
    check_plan(location, root, planned)
    if root and not root.manifest.sealed:
        return _resume(location, root.manifest)
    manifest = replace(root.manifest, sealed=False, seal="") if root else planned
    files = dict(root.files) if root else {}
    layout = lay_out(manifest, table)
    check_extra(location, manifest, layout)
    check_sources(location, files, table, layout)
    seal = recorded_seal(root_bytes(location))
    with disk_errors(location), location.beside(JOURNAL).lock(LOCK, str(location)):
        notes, damaged = _examine(location, manifest, files, watch)
        expected = {name: files.get(name, digest_bytes(data)) for name, data in layout.items() if name != ROOT}
        expected |= {name: digest for name, digest in files.items() if is_digest_table(name)}
        documents = [name for name, digest in expected.items() if not agrees(location, name, digest)]
        partial = any(name.endswith(PARTIAL) for name in location.names())
        if root and not (damaged or documents or partial):
            return Repair(manifest=root.manifest, units=(), documents=(), old_seal=seal)
        _write_notes(location.beside(JOURNAL), notes | {OLD_SEAL: seal.encode()})
        for name in documents:
            if name in layout:  # a table of digests is written when the store is sealed
                location.write(name, layout[name])
        location.write(ROOT, layout[ROOT])  # from here on the store is unfinished
    if root is None:
        documents.append(ROOT)
    return Repair(manifest=manifest, units=tuple(damaged), documents=tuple(documents), old_seal=seal)


def _resume(location: Location, manifest: Manifest) -> Repair:
    """A repair or a build that was interrupted: it keeps its manifest and builds the units that are left."""
    journal = location.beside(JOURNAL)
    with disk_errors(location):
        seal = journal.read(OLD_SEAL).decode() if journal.exists(OLD_SEAL) else ""
    pending = tuple(StoreWriter(location, manifest).pending())
    return Repair(manifest=manifest, units=pending, documents=(), old_seal=seal)


def _examine(
    location: Location, manifest: Manifest, files: Mapping[str, str], watch: Callable[[list[Unit]], Iterable[Unit]]
) -> tuple[dict[str, bytes], list[Unit]]:
    """Read every shard: the notes for the journal (digests of a unit, present or expected), and the damaged units."""
    tables = {split: _trusted_table(location, manifest, files, split) for split in manifest.counts}
    notes: dict[str, bytes] = {}
    damaged: list[Unit] = []
    for unit in watch(all_units(manifest)):
        plans = plan_arrays(manifest, unit.split)
        if tables[unit.split].size:
            digests = {plan.path: tables[unit.split][unit.index, n].tobytes().hex() for n, plan in enumerate(plans)}
        else:
            digests = _digests_in_journal(location.beside(JOURNAL), unit)
        intact = all(agrees(location, plan.shard_name(unit), digests.get(plan.path, "")) for plan in plans)
        if digests:
            notes[unit.name + (ENTRY if intact else EXPECTED)] = json.dumps(digests, indent=1).encode()
        if not intact:
            damaged.append(unit)
    return notes, damaged


def _trusted_table(location: Location, manifest: Manifest, files: Mapping[str, str], split: Split) -> NDArray[np.uint8]:
    """The digests of the shards of a split, u8 [unit, array, 32]; empty if they are lost.

    A damaged table is computed from the shards, and used if its files then have the digests in the root.
    """
    table = digest_table(location, manifest, files, split)
    if table.size or not files:
        return table
    units, plans = plan_units(split, manifest.counts[split], manifest.unit), plan_arrays(manifest, split)
    try:
        found = [[list(bytes.fromhex(location.digest(plan.shard_name(unit)))) for plan in plans] for unit in units]
    except OSError as error:
        if error.errno is None:  # object storage does not answer
            raise
        return table
    computed = np.array(found, np.uint8)
    encoded = encode_digests(manifest, split, computed)
    return computed if all(files.get(name) == digest_bytes(data) for name, data in encoded.items()) else table


def _digests_in_journal(journal: Location, unit: Unit) -> dict[str, str]:
    """The digests of the shards of a unit in the journal of an interrupted build or repair; empty if it has none."""
    for ending in (ENTRY, EXPECTED):
        try:
            return dict[str, str](json.loads(journal.read(unit.name + ending)))
        except (FileNotFoundError, ValueError):
            continue
    return {}


def _write_notes(journal: Location, notes: Mapping[str, bytes]) -> None:
    """Make the journal hold these notes and no older ones."""
    for name in [name for name in journal.names() if name not in notes and name != LOCK]:
        journal.remove(name)
    for name, data in notes.items():
        journal.write(name, data)
