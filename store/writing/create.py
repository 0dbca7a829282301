"""Create a store without its pictures, or check that an unfinished one has the same settings and sources.

Where a location has locks, one in the journal excludes other builds, and the layout appears at once. Where it has none,
the first object of a build claims the location for its settings and sources, and the root is put last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from store.files import disk_errors
from store.format.manifest import ROOT, is_sealed
from store.location.base import Location
from store.pairs.table import Table
from store.schema import Manifest, StoreError
from store.writing.journal import BEGUN, LOCK, SKELETON, Journal, digests_of
from store.writing.resume import check_same, write_anew


@contextmanager
def ready_to_write(location: Location, manifest: Manifest, table: Table, layout: Mapping[str, bytes]) -> Iterator[None]:
    """Create a store, or check the unfinished one, so that units can be written; excludes other builds by a lock.

    `layout` is that of manifest and table. A file of it that is damaged in the unfinished store is written anew.
    """
    journal = Journal(location)
    with journal.place.lock(LOCK, str(location)) as new:
        try:
            with disk_errors(location):
                if not location.occupied(ROOT):
                    _create(location, journal, layout)
                else:
                    check_same(location, manifest, table, layout)
                    write_anew(location, layout)
                    journal.keep_begun(digests_of(layout))
                for place in (location, journal.place):
                    place.remove_partial()
        except BaseException:
            if location.can_lock and (new or not location.occupied(ROOT) or is_sealed(location)):
                journal.place.remove_all()  # it belongs to no unfinished store
            raise
        yield


def _create(location: Location, journal: Journal, layout: Mapping[str, bytes]) -> None:
    """Write everything except the pictures, and remove the entries of an older journal: its store was removed.

    Without locks, of builds that start at once with different settings or sources only the first to claim the location
    continues.
    """
    if location.can_lock or not journal.place.exists(BEGUN):
        if not location.can_lock and next(location.names(), None) is not None:
            raise StoreError(f"{location} holds objects and is no store: it has no {ROOT}; choose another STORE=")
        journal.clear()  # otherwise an old entry would commit a unit of the new store
    if not journal.begin(digests_of(layout)):
        raise StoreError(
            f"{location} was started with other settings or other sources, or another build is starting it now; "
            f"choose another STORE=, or, if no other build is running, remove {location} and {journal.place}"
        )
    location.publish(layout, last=ROOT, scratch=journal.place.within(SKELETON))
