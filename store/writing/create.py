"""Create a store without its pictures, or make sure that an unfinished one is the store that is meant.

Where a location has locks, one in the journal keeps other builds away, and the layout appears at once. Where it has
none, the first object of a build claims the place for its settings and sources, and the root is put last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from store.files import digest_bytes, disk_errors
from store.format.manifest import JOURNAL, ROOT, read_root
from store.format.shards import lay_out
from store.format.tables import read_table
from store.location.base import Location
from store.schema import Manifest, StoreError, Table
from store.settings import differences, plain

LOCK = "lock"  # in the journal of a store where there are locks: that of the one process that builds
BEGUN = "begun"  # in the journal of a store where there are none: the digest of the layout that is being put there
SKELETON = "skeleton"  # in the journal: the layout before it appears


@contextmanager
def prepared(location: Location, manifest: Manifest, table: Table) -> Iterator[None]:
    """Bring a store to where units can be written, and keep other builds away if the place can."""
    journal = location.beside(JOURNAL)
    with journal.locked(LOCK, str(location)) as new:
        try:
            with disk_errors(location):
                if location.taken(ROOT):
                    _check_same(location, manifest, table)
                else:
                    _create(location, journal, lay_out(manifest, table))
                for place in (location, journal):
                    place.sweep()
        except BaseException:
            if location.locks and (new or not location.taken(ROOT)):  # the journal is of no store
                journal.remove_all()
            raise
        yield


def _create(location: Location, journal: Location, files: Mapping[str, bytes]) -> None:
    """Write everything but the pictures. What an older journal says is of a store that somebody removed: it goes.

    Without locks, of builds that begin at once with unlike settings or sources all but the first to claim the place are
    refused.
    """
    if not journal.exists(BEGUN):
        if not location.locks and next(location.names(), None) is not None:
            raise StoreError(f"{location} holds objects and is no store: it has no {ROOT}; choose another STORE=")
        for name in [name for name in journal.names() if name != LOCK]:
            journal.remove(name)  # or a shard of the new store would count by an old entry
    if not location.locks:
        claim = digest_bytes(json.dumps({name: digest_bytes(data) for name, data in files.items()}).encode()).encode()
        if journal.claim(BEGUN, claim) != claim:
            raise StoreError(
                f"{location} was begun with other settings or other sources, or another build is beginning it so; "
                f"choose another STORE=, or, if no other build is at work, remove what is at {location} and at "
                f"{journal}"
            )
    location.appear(files, last=ROOT, scratch=journal.within(SKELETON))


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
    before = read_table(location, tuple(manifest.counts))
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
