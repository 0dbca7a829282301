"""Mend a damaged store: make it an unfinished one that lacks what is damaged, and let the ordinary build finish it.

What is whole stays. A unit that is built again must come out with the digests that the seal covers; a store whose root
is whole ends with the seal it had. Cut off anywhere, the same command goes on.
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
from store.format.manifest import JOURNAL, ROOT, Root, all_units, recorded_seal
from store.format.shards import encode_digests, lay_out
from store.location.base import Location
from store.location.open import locate
from store.schema import Manifest, Split, Table
from store.verify import agrees, digest_table
from store.writing.create import LOCK
from store.writing.repair_checks import check_extra, check_plan, check_sources, root_bytes, untouched_root
from store.writing.writer import ENTRY, EXPECTED, StoreWriter, is_digest_table

MENDED = "repair"  # in the journal: the seal that the store had, empty if nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What is to be built again, the manifest to build it with, and the seal that the store had (or empty).

    `documents` are the damaged files without pictures: they are new now, or will be when the store is sealed. The
    manifest is sealed if nothing is damaged.
    """

    manifest: Manifest
    units: tuple[Unit, ...]
    documents: tuple[str, ...]
    seal: str


def whole_root(address: Location | Path | str) -> Root | None:
    """The root of a store if nobody touched it: sealed and fitting its seal, or not sealed yet."""
    return untouched_root(locate(address))


def reopen(
    address: Location | Path | str,
    planned: Manifest,
    table: Table,
    watch: Callable[[list[Unit]], Iterable[Unit]] = iter,
) -> Repair:
    """Find what is damaged and turn the store into an unfinished one that lacks it; the journal says what is whole.

    `planned` and `table` are what a build of the same tiles would write; the manifest of the store itself is kept if
    its root is whole. Raises StoreError if they are not those of this store, or if the store holds what is not its;
    nothing is written before everything is read.
    """
    location = locate(address)
    root = untouched_root(location)
    check_plan(location, root, planned)
    if root and not root.manifest.sealed:
        return _resumed(location, root.manifest)
    manifest = replace(root.manifest, sealed=False, seal="") if root else planned
    files = dict(root.files) if root else {}
    layout = lay_out(manifest, table)
    check_extra(location, manifest, layout)
    check_sources(location, files, table, layout)
    seal = recorded_seal(root_bytes(location))
    with disk_errors(location), location.beside(JOURNAL).locked(LOCK, str(location)):
        notes, damaged = _examine(location, manifest, files, watch)
        due = {name: files.get(name, digest_bytes(data)) for name, data in layout.items() if name != ROOT}
        due |= {name: digest for name, digest in files.items() if is_digest_table(name)}
        documents = [name for name, digest in due.items() if not agrees(location, name, digest)]
        leftovers = any(name.endswith(PARTIAL) for name in location.names())
        if root and not (damaged or documents or leftovers):
            return Repair(manifest=root.manifest, units=(), documents=(), seal=seal)
        _note(location.beside(JOURNAL), notes | {MENDED: seal.encode()})
        for name in documents:
            if name in layout:  # a table of digests is written when the store is sealed
                location.write(name, layout[name])
        location.write(ROOT, layout[ROOT])  # from here on it is an unfinished store
    if root is None:
        documents.append(ROOT)
    return Repair(manifest=manifest, units=tuple(damaged), documents=tuple(documents), seal=seal)


def _resumed(location: Location, manifest: Manifest) -> Repair:
    """A repair, or a build, that was cut off: it goes on with the manifest that it has."""
    journal = location.beside(JOURNAL)
    with disk_errors(location):
        seal = journal.read(MENDED).decode() if journal.exists(MENDED) else ""
    return Repair(manifest=manifest, units=tuple(StoreWriter(location, manifest).pending()), documents=(), seal=seal)


def _examine(
    location: Location, manifest: Manifest, files: Mapping[str, str], watch: Callable[[list[Unit]], Iterable[Unit]]
) -> tuple[dict[str, bytes], list[Unit]]:
    """Read every shard: the notes for the journal (what a unit has, or should have), and the units that are damaged."""
    tables = {split: _trusted_table(location, manifest, files, split) for split in manifest.counts}
    notes: dict[str, bytes] = {}
    damaged: list[Unit] = []
    for unit in watch(all_units(manifest)):
        plans = plan_arrays(manifest, unit.split)
        if tables[unit.split].size:
            digests = {plan.path: tables[unit.split][unit.index, n].tobytes().hex() for n, plan in enumerate(plans)}
        else:
            digests = _noted(location.beside(JOURNAL), unit)
        whole = all(agrees(location, plan.shard_name(unit), digests.get(plan.path, "")) for plan in plans)
        if digests:
            notes[unit.name + (ENTRY if whole else EXPECTED)] = json.dumps(digests, indent=1).encode()
        if not whole:
            damaged.append(unit)
    return notes, damaged


def _trusted_table(location: Location, manifest: Manifest, files: Mapping[str, str], split: Split) -> NDArray[np.uint8]:
    """The digests of a split's shards, u8 [unit, array, 32]; empty if nobody knows them any more.

    A damaged table is computed again from the shards, and believed if its files are then those that the root names.
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
    again = np.array(found, np.uint8)
    encoded = encode_digests(manifest, split, again)
    return again if all(files.get(name) == digest_bytes(data) for name, data in encoded.items()) else table


def _noted(journal: Location, unit: Unit) -> dict[str, str]:
    """The digests of a unit's shards as the journal of a build or repair that was cut off has them, if it has."""
    for ending in (ENTRY, EXPECTED):
        try:
            return dict[str, str](json.loads(journal.read(unit.name + ending)))
        except (FileNotFoundError, ValueError):
            continue
    return {}


def _note(journal: Location, notes: Mapping[str, bytes]) -> None:
    """Make the journal hold these notes, and no older ones."""
    for name in [name for name in journal.names() if name not in notes and name != LOCK]:
        journal.remove(name)
    for name, data in notes.items():
        journal.write(name, data)
