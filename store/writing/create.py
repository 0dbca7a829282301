"""Create a store without its pictures, or check that an unfinished one has the same settings and sources.

Where a location has locks, one in the journal excludes other builds, and the layout appears at once. Where it has none,
the first object of a build claims the location for its settings and sources, and the root is put last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from store.files import digest_bytes, disk_errors
from store.format.manifest import JOURNAL, ROOT
from store.format.shards import lay_out
from store.location.base import Location
from store.schema import Manifest, StoreError, Table
from store.writing.resume import check_same

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
                if not location.occupied(ROOT):
                    _create(location, journal, lay_out(manifest, table))
                else:
                    check_same(location, manifest, table)
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
