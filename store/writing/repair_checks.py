"""What is left of a damaged store, and whether the tiles and settings at hand are those that it was made from.

Nothing here writes. A store must never be mended with what is not its own.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from store.files import PARTIAL, digest_bytes, disk_errors
from store.format.layout import plan_arrays
from store.format.manifest import ROOT, Root, all_units, fits_its_seal, read_root, root_document
from store.format.shards import encode_digests
from store.format.tables import read_pairs, read_skipped
from store.location.base import Location
from store.schema import Manifest, Split, StoreError, Table
from store.settings import differences, plain
from store.verify import agrees, digests_shape


def root_bytes(location: Location) -> bytes:
    """The bytes of the root, empty if it is missing or a bad disk lost it. StoreError if it cannot be reached."""
    try:
        return location.read(ROOT)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise StoreError(f"{ROOT} of {location} cannot be read: {error}") from error


def untouched_root(location: Location) -> Root | None:
    """The root if it is as it was written: sealed and fitting its seal, or not sealed yet.

    Raises StoreError if it cannot be reached, or is as it was written and of a version that is not known here.
    """
    document = root_bytes(location)
    try:
        root = read_root(location)
    except StoreError:
        if fits_its_seal(document):
            raise
        return None
    begun = root_document(replace(root.manifest, sealed=False, seal=""), {})
    whole = root.seal() == root.manifest.seal if root.manifest.sealed else document == begun
    return root if whole else None


def check_plan(location: Location, root: Root | None, planned: Manifest) -> None:
    """The tiles and settings at hand give this store; versions of libraries may be others, digests will tell.

    Of a damaged root that can still be read one value may be another: a setting stands in it twice.
    """
    try:
        manifest = (root or read_root(location)).manifest
    except StoreError:
        return
    kept, due = (plain(replace(each, software={}, sealed=False, seal="")) for each in (manifest, planned))
    changed = differences(kept, due)
    if len(changed) > (0 if root else 1):
        raise StoreError(
            f"{location} was made with other settings or from other tiles ({'; '.join(changed[:3])}), so nothing of it "
            "can be built again from these; give those it was made with"
        )


def check_sources(location: Location, files: Mapping[str, str], table: Table, layout: Mapping[str, bytes]) -> None:
    """The pair tables at hand are those of the store, or, where these are damaged, those that the root names."""
    tables = {f"{split}/pair": pairs for split, pairs in table.pairs.items()} | {"skipped": table.skipped}
    for path, rows in tables.items():
        named = {name: digest for name, digest in files.items() if name.startswith(f"{path}/")}
        if all(agrees(location, name, digest) for name, digest in named.items()):
            try:
                same = rows == _rows(location, path)
            except StoreError:
                same = True  # the root is lost, and this table as well
        else:
            same = all(digest_bytes(layout[name]) == digest for name, digest in named.items())
        if not same:
            raise StoreError(
                f"the tiles at hand are not those that {location} was made from: its table {path} would come out "
                "otherwise; bring the old tiles back"
            )


def check_extra(location: Location, manifest: Manifest, layout: Mapping[str, bytes]) -> None:
    """There is a store, and nothing in it but what belongs to it and what a cut-off write left."""
    known = {*layout, *(p.shard_name(unit) for unit in all_units(manifest) for p in plan_arrays(manifest, unit.split))}
    for split in manifest.counts:
        known.update(encode_digests(manifest, split, np.zeros(digests_shape(manifest, split), np.uint8)))
    with disk_errors(location):
        names = [*location.names()]
    if not names:
        raise StoreError(f"nothing is at {location} that could be repaired; make it with `python -m prep build`")
    if extra := [name for name in names if name not in known and not name.endswith(PARTIAL)]:
        raise StoreError(
            f"{location} holds {len(extra)} files that are not part of it ({', '.join(extra[:3])}); remove them first"
        )


def _rows(location: Location, path: str) -> tuple[object, ...]:
    return read_skipped(location) if path == "skipped" else read_pairs(location, Split(path.partition("/")[0]))
