"""Create a store without its pictures, or check that an unfinished one has the same settings and sources.

Where a location has locks, one in the journal excludes other builds, and the layout appears at once. Where it has none,
the first object of a build claims the location for its settings and sources, and the root is put last.
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

LOCK = "lock"  # in the journal, where locks exist: held by the one process that builds
CLAIM = "begun"  # in the journal, where locks do not exist: the digest of the layout that is being put there
SKELETON = "skeleton"  # in the journal: the layout before it is published


@contextmanager
def ready_to_write(location: Location, manifest: Manifest, table: Table) -> Iterator[None]:
    """Create a store, or check the unfinished one, so that units can be written; excludes other builds by a lock."""
    journal = location.beside(JOURNAL)
    with journal.lock(LOCK, str(location)) as new:
        try:
            with disk_errors(location):
                if location.occupied(ROOT):
                    _check_same(location, manifest, table)
                else:
                    _create(location, journal, lay_out(manifest, table))
                for place in (location, journal):
                    place.remove_partial()
        except BaseException:
            if location.can_lock and (new or not location.occupied(ROOT)):  # the journal belongs to no store
                journal.remove_all()
            raise
        yield


def _create(location: Location, journal: Location, files: Mapping[str, bytes]) -> None:
    """Write everything except the pictures, and remove the entries of an older journal: its store was removed.

    Without locks, of builds that start at once with different settings or sources only the first to claim the location
    continues.
    """
    if not journal.exists(CLAIM):
        if not location.can_lock and next(location.names(), None) is not None:
            raise StoreError(f"{location} holds objects and is no store: it has no {ROOT}; choose another STORE=")
        for name in [name for name in journal.names() if name != LOCK]:
            journal.remove(name)  # otherwise an old entry would commit a unit of the new store
    if not location.can_lock:
        claim = digest_bytes(json.dumps({name: digest_bytes(data) for name, data in files.items()}).encode()).encode()
        if journal.claim(CLAIM, claim) != claim:
            raise StoreError(
                f"{location} was started with other settings or other sources, or another build is starting it now; "
                f"choose another STORE=, or, if no other build is running, remove {location} and {journal}"
            )
    location.publish(files, last=ROOT, scratch=journal.within(SKELETON))


def _check_same(location: Location, manifest: Manifest, table: Table) -> None:
    """Raise StoreError if the store is finished, or was started with other settings or other sources."""
    started, journal = read_root(location).manifest, location.beside(JOURNAL).name
    if started.sealed:
        raise StoreError(
            f"{location} is sealed; a finished store is never written to. Remove it first, or choose another STORE="
        )
    changed = differences(plain(started), plain(manifest))
    if changed:
        raise StoreError(
            f"{location} was started with other settings or other sources ({'; '.join(changed[:3])}); use the old "
            f"ones, remove the unfinished store and {journal} beside it, or choose another STORE="
        )
    remedy = f"restore the old files, or remove the unfinished store and {journal} beside it"
    before = read_table(location, tuple(manifest.counts))
    for split, pairs in table.pairs.items():
        for old, new in zip(before.pairs[split], pairs, strict=True):
            if old != new:
                rows = "; ".join(differences(asdict(old), asdict(new)))
                raise StoreError(
                    f"the sources of {location} changed since it was started: pair {old.id!r} of {split}: {rows}; "
                    f"{remedy}"
                )
    if before.skipped != table.skipped:
        raise StoreError(f"the skipped pairs of {location} changed since it was started; {remedy}")
