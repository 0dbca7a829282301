"""Repair a damaged store: make it an unfinished one without the damaged units, which the ordinary build finishes.

Intact files stay. A rebuilt unit must have the digests that the seal covers; a store whose root or the copy of it is
intact ends with the seal it had. After any interruption the same command resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.card.measured import Measured
from store.card.record import CARD, is_whole
from store.files import PARTIAL, digest_bytes, disk_errors
from store.format.layout import Unit, plan_arrays, plan_units
from store.format.manifest import COPY, ROOT, Root, all_units, recorded_seal, root_bytes
from store.format.shards import encode_digests, lay_out
from store.location.base import Location
from store.location.open import locate
from store.pairs.table import Table
from store.schema import Manifest, Split, StoreError
from store.verify import agrees, digest_table
from store.writing.journal import BEGUN, ENTRY, EXPECTED, LOCK, OLD_SEAL, Digests, Journal, digests_of
from store.writing.lost_root import Prove, check_arrays, check_pixels, check_trusted, has_recorded_seal
from store.writing.repair_checks import check_extra, check_plan, check_sources, intact_root
from store.writing.writer import StoreWriter


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
    *,
    measured: Measured | None = None,
    prove: Prove | None = None,
    trusted: bool = False,
) -> Repair:
    """Find what is damaged and make the store an unfinished one without it; the journal lists the intact units.

    `planned`, `table` and `measured` are what a build of the same tiles would write; the manifest of the store is kept
    if its root or the copy of it is intact. If both are lost, `prove` builds a unit to compare, and a person must have
    said that the settings are `trusted`. `watch` may wrap the list of units in a progress bar. Raises StoreError if
    tiles or settings are not those of this store, or if it holds other files; everything is read before anything is
    written.
    """
    location = locate(address)
    layout = lay_out(planned, table)
    with disk_errors(location):
        begun, root = Journal(location).begun(), intact_root(location)
    if root is None and begun:  # an unfinished store: its damaged root is written again
        if begun != digests_of(layout):
            raise StoreError(
                f"{location} was started with other settings, from other tiles or with other versions of libraries, "
                f"and its {ROOT} is damaged: give those that it was started with, or remove it and its journal"
            )
        return _resume(location, planned)
    check_plan(location, root, planned)
    if root and not root.manifest.sealed:
        return _resume(location, root.manifest)
    if root:
        manifest = replace(root.manifest, sealed=False, seal="")
        layout = layout if manifest == planned else lay_out(manifest, table)
    else:
        manifest = planned
        check_arrays(location, layout)
    check_extra(location, manifest, layout)
    check_sources(location, root.files if root else {}, table, layout)
    journal = Journal(location).place
    with disk_errors(location), journal.lock(LOCK, str(location)) as new:
        try:
            units, damaged = _examine(location, manifest, root.files if root else {}, watch)
            if root is None and not has_recorded_seal(location, manifest, layout, units):
                if prove:
                    check_pixels(location, manifest, units, prove)
                check_trusted(location, manifest, trusted=trusted)
        except BaseException:
            if new:
                journal.remove_all()
            raise
        return _begin(location, root, manifest, layout, units, damaged, has_card=measured is not None)


def _begin(
    location: Location,
    root: Root | None,
    manifest: Manifest,
    layout: Mapping[str, bytes],
    units: Mapping[str, Digests],
    damaged: list[Unit],
    *,
    has_card: bool,
) -> Repair:
    """Write the journal and the documents without pictures, then the root: from there on the store is unfinished."""
    files = dict(root.files) if root else {}
    expected = {name: files.get(name, digest_bytes(data)) for name, data in layout.items() if name != ROOT}
    expected |= {name: digest for name, digest in files.items() if is_digest_table(name)}
    documents = [name for name, digest in expected.items() if not agrees(location, name, digest)]
    documents += [name for name in (ROOT, COPY) if not root or root_bytes(location, name) != root.document]
    seal = root.manifest.seal if root else recorded_seal(root_bytes(location))
    if has_card and not is_whole(root_bytes(location, CARD), seal):
        documents.append(CARD)
    partial = any(name.endswith(PARTIAL) for name in location.names())
    if root and not (damaged or documents or partial):
        return Repair(manifest=root.manifest, units=(), documents=(), old_seal=seal)
    lost = {unit.name for unit in damaged}
    records = {name + (EXPECTED if name in lost else ENTRY): digests for name, digests in units.items()}
    Journal(location).replace_with(records | {OLD_SEAL: {"seal": seal}, BEGUN: digests_of(layout)})
    for name in documents:
        if name in layout and name != ROOT:  # a table of digests is written when the store is sealed
            location.write(name, layout[name])
    location.write(ROOT, layout[ROOT])
    return Repair(manifest=manifest, units=tuple(damaged), documents=tuple(documents), old_seal=seal)


def _resume(location: Location, manifest: Manifest) -> Repair:
    """A repair or a build that was interrupted: it keeps its manifest and builds the units that are left."""
    with disk_errors(location):
        seal = Journal(location).old_seal()
    pending = tuple(StoreWriter(location, manifest).pending())
    return Repair(manifest=manifest, units=pending, documents=(), old_seal=seal)


def _examine(
    location: Location, manifest: Manifest, files: Mapping[str, str], watch: Callable[[list[Unit]], Iterable[Unit]]
) -> tuple[dict[str, Digests], list[Unit]]:
    """Read every shard: the digests that each unit has or must have, as far as they are known; the damaged units."""
    tables = {split: _trusted_table(location, manifest, files, split) for split in manifest.counts}
    journal = Journal(location)
    known: dict[str, Digests] = {}
    damaged: list[Unit] = []
    for unit in watch(all_units(manifest)):
        plans = plan_arrays(manifest, unit.split)
        if tables[unit.split].size:
            digests = {plan.path: tables[unit.split][unit.index, n].tobytes().hex() for n, plan in enumerate(plans)}
        else:
            digests = journal.entry(unit) or journal.expected(unit)
        if digests:
            known[unit.name] = digests
        if not all(agrees(location, plan.shard_name(unit), digests.get(plan.path, "")) for plan in plans):
            damaged.append(unit)
    return known, damaged


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


def is_digest_table(name: str) -> bool:
    """Whether a file belongs to the table of digests of a split."""
    return name.split("/")[1:2] == ["unit"]
