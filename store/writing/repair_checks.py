"""What is intact in a damaged store, and whether the given tiles and settings are those that it was made from.

Nothing here writes. A store must never be repaired from other tiles or settings than its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from store.card.record import CARD
from store.files import PARTIAL, digest_bytes, disk_errors
from store.format.layout import plan_arrays
from store.format.manifest import COPY, ROOT, Root, all_units, matches_its_seal, read_root, root_bytes, root_document
from store.format.shards import encode_digests
from store.format.tables import read_pairs, read_skipped
from store.location.base import Location
from store.location.open import locate
from store.pairs.table import Table
from store.schema import Manifest, Split, StoreError
from store.settings import differences, plain
from store.verify import agrees, digests_shape


def intact_root(address: Location | Path | str) -> Root | None:
    """The root of a store if it is as it was written: sealed and matching its seal, or not sealed yet.

    Where it is damaged, its copy, which is sealed, counts. Raises StoreError if the root cannot be reached, or is
    intact and of another format.
    """
    location = locate(address)
    for name in (ROOT, COPY):
        try:
            root = read_root(location, name)
        except StoreError:
            if matches_its_seal(root_bytes(location, name)):
                raise
            continue
        unsealed = root_document(replace(root.manifest, sealed=False, seal=""), {})
        if root.computed_seal() == root.manifest.seal if root.manifest.sealed else root.document == unsealed:
            return root
    return None


def check_plan(location: Location, root: Root | None, planned: Manifest) -> None:
    """Raise StoreError unless the given tiles and settings make this store.

    Versions of libraries may differ: the digests of the rebuilt units decide. In a damaged root that can still be read
    one value may differ, because a setting is in it twice.
    """
    try:
        manifest = (root or read_root(location)).manifest
    except StoreError:
        return
    stored, given = (plain(replace(each, software={}, sealed=False, seal="")) for each in (manifest, planned))
    changed = differences(stored, given)
    if len(changed) > (0 if root else 1):
        raise StoreError(
            f"{location} was made with other settings or from other tiles ({'; '.join(changed[:3])}) and cannot be "
            "repaired from these; give those that it was made from"
        )


def check_sources(location: Location, files: Mapping[str, str], table: Table, layout: Mapping[str, bytes]) -> None:
    """Raise StoreError unless the given pair tables are those of the store or, where these are damaged, of its root."""
    tables = {f"{split}/pair": pairs for split, pairs in table.pairs.items()} | {"skipped": table.skipped}
    for path, rows in tables.items():
        named = {name: digest for name, digest in files.items() if name.startswith(f"{path}/")}
        if all(agrees(location, name, digest) for name, digest in named.items()):
            try:
                same = rows == _rows(location, path)
            except StoreError:
                same = True  # both the root and this table are lost
        else:
            same = all(digest_bytes(layout[name]) == digest for name, digest in named.items())
        if not same:
            raise StoreError(
                f"the given tiles are not those that {location} was made from: its table {path} would be different; "
                "restore the old tiles"
            )


def check_extra(location: Location, manifest: Manifest, layout: Mapping[str, bytes]) -> None:
    """Raise StoreError unless there is a store that holds only its own files and those of interrupted writes."""
    known = {COPY, CARD, *layout}
    known.update(plan.shard_name(unit) for unit in all_units(manifest) for plan in plan_arrays(manifest, unit.split))
    for split in manifest.counts:
        known.update(encode_digests(manifest, split, np.zeros(digests_shape(manifest, split), np.uint8)))
    with disk_errors(location):
        names = [*location.names()]
    if not names:
        raise StoreError(f"{location} does not exist or is empty; build it with `python -m prep build`")
    if extra := [name for name in names if name not in known and not name.endswith(PARTIAL)]:
        raise StoreError(
            f"{location} holds {len(extra)} files that do not belong to it ({', '.join(extra[:3])}); remove them first"
        )


def _rows(location: Location, path: str) -> tuple[object, ...]:
    return read_skipped(location) if path == "skipped" else read_pairs(location, Split(path.partition("/")[0]))
