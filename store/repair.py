"""Mend a damaged store: make it an unfinished one that lacks what is damaged, and let the ordinary build finish it.

What is whole stays. A unit that is built again must come out with the digests that the seal covers; a store whose root
is whole ends with the seal it had. Cut off anywhere, the same command goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.arrays import Unit, plan_arrays, plan_units
from store.files import disk_errors, locked
from store.location import Folder, Location, digest_bytes, locate
from store.manifest import JOURNAL, ROOT, Root, all_units, read_root
from store.schema import Manifest, Split, StoreError, Table
from store.settings import differences, plain
from store.shards import encode_digests, lay_out
from store.verify import agrees, digest_table
from store.writer import EXPECTED, LOCK, is_digest_table

MENDED = "repair"  # in the journal: the seal that the store had, empty if its root was damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What is to be built again, the manifest to build it with, and the seal that the store had (or empty)."""

    manifest: Manifest
    units: tuple[Unit, ...]
    documents: tuple[str, ...]
    seal: str


def whole_root(address: Location | Path | str) -> Root | None:
    """The root of a store if nobody touched it: sealed and fitting its seal, or not sealed yet."""
    try:
        root = read_root(address)
    except StoreError:
        return None
    return root if not root.manifest.sealed or root.seal() == root.manifest.seal else None


def reopen(
    address: Location | Path | str,
    planned: Manifest,
    table: Table,
    watch: Callable[[list[Unit]], Iterable[Unit]] = iter,
) -> Repair:
    """Find what is damaged and turn the store into an unfinished one that lacks it; the journal says what is whole.

    `planned` and `table` are what a build of the same tiles would write; the manifest of the store itself is kept if
    its root is whole. Raises StoreError if they are not those of this store, or if the store holds what is not its.
    """
    location = locate(address)
    root = whole_root(location)
    if root is not None and not root.manifest.sealed:
        return _resumed(location, root.manifest)
    manifest = planned if root is None else replace(root.manifest, sealed=False, seal="")
    files = {} if root is None else dict(root.files)
    _check_plan(location, manifest, planned)
    layout = lay_out(manifest, table)
    _check_extra(location, manifest, layout)
    _check_sources(location, files, layout)
    seal = "" if root is None else root.manifest.seal
    journal = location.beside(JOURNAL)
    with disk_errors(location), _locked(journal, str(location)):
        for name in [name for name in journal.names() if name != LOCK]:
            journal.remove(name)
        damaged = _journal_units(location, manifest, files, watch)
        journal.write(MENDED, seal.encode())
        documents = [name for name, data in layout.items() if not agrees(location, name, digest_bytes(data))]
        for name in sorted(documents, key=lambda name: name == ROOT):  # from here on it is an unfinished store
            location.write(name, layout[name])
    documents.remove(ROOT)  # it differs by being sealed
    return Repair(manifest=manifest, units=tuple(damaged), documents=tuple(documents), seal=seal)


def _resumed(location: Location, manifest: Manifest) -> Repair:
    """A repair, or a build, that was cut off: it goes on with the manifest that it has."""
    journal = location.beside(JOURNAL)
    seal = journal.read(MENDED).decode() if journal.exists(MENDED) else ""
    return Repair(manifest=manifest, units=(), documents=(), seal=seal)


def _check_plan(location: Location, manifest: Manifest, planned: Manifest) -> None:
    """The tiles and settings at hand give this store; versions of libraries may be others, digests will tell."""
    changed = differences(plain(replace(manifest, software={})), plain(replace(planned, software={})))
    if changed:
        raise StoreError(
            f"{location} was made with other settings or from other tiles ({'; '.join(changed[:3])}), so nothing of it "
            "can be built again from these; give those it was made with"
        )


def _check_sources(location: Location, files: dict[str, str], layout: dict[str, bytes]) -> None:
    """The pair tables that the tiles at hand give are those that the root names."""
    tables = {name: digest_bytes(data) for name, data in layout.items() if "/pair/" in name}
    other = [name for name, digest in tables.items() if files.get(name, digest) != digest]
    if other:
        raise StoreError(
            f"the tiles at hand are not those that {location} was made from: {', '.join(other[:3])} would come out "
            "otherwise; bring the old tiles back"
        )


def _check_extra(location: Location, manifest: Manifest, layout: dict[str, bytes]) -> None:
    shards = {p.shard_name(unit) for unit in all_units(manifest) for p in plan_arrays(manifest, unit.split)}
    known = shards | layout.keys()
    extra = [name for name in location.names() if name not in known and not is_digest_table(name)]
    if extra:
        raise StoreError(
            f"{location} holds {len(extra)} files that are not part of it ({', '.join(extra[:3])}); remove them first"
        )


def _journal_units(
    location: Location, manifest: Manifest, files: dict[str, str], watch: Callable[[list[Unit]], Iterable[Unit]]
) -> list[Unit]:
    """Write the entry of every unit that is whole, what is expected of the others, and return these."""
    journal, damaged = location.beside(JOURNAL), []
    tables = {split: _trusted_table(location, manifest, files, split) for split in manifest.counts}
    for unit in watch(all_units(manifest)):
        if not tables[unit.split].size:
            damaged.append(unit)
            continue
        plans = plan_arrays(manifest, unit.split)
        digests = {plan.path: tables[unit.split][unit.index, n].tobytes().hex() for n, plan in enumerate(plans)}
        whole = all(agrees(location, plan.shard_name(unit), digests[plan.path]) for plan in plans)
        journal.write(f"{unit.name}{'.json' if whole else EXPECTED}", json.dumps(digests, indent=1).encode())
        if not whole:
            damaged.append(unit)
    return damaged


def _trusted_table(location: Location, manifest: Manifest, files: dict[str, str], split: Split) -> NDArray[np.uint8]:
    """The digests of a split's shards, u8 [unit, array, 32]; empty if nobody knows them any more.

    A damaged table is computed again from the shards, and believed if its files are then those that the root names.
    """
    table = digest_table(location, manifest, files, split)
    if table.size or not files:
        return table
    units, plans = plan_units(split, manifest.counts[split], manifest.unit), plan_arrays(manifest, split)
    try:
        found = [[list(bytes.fromhex(location.digest(plan.shard_name(unit)))) for plan in plans] for unit in units]
    except OSError:
        return table
    again = np.array(found, np.uint8)
    encoded = encode_digests(manifest, split, again)
    return again if all(files.get(name) == digest_bytes(data) for name, data in encoded.items()) else table


@contextmanager
def _locked(journal: Location, what: str) -> Iterator[None]:
    """Hold the lock of the journal of a store on a local disk."""
    if not isinstance(journal, Folder):
        yield
        return
    journal.path.mkdir(parents=True, exist_ok=True)
    with locked(journal.path / LOCK, what):
        yield
