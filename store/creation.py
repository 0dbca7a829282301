"""Create a store without its pictures, or make sure that an unfinished one is the store that is meant.

On a local disk the layout appears at once, by renaming, and a lock in the journal keeps other builds away. In a bucket
there are neither: the root is put last, and the first object of a build claims the place for its settings and sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict

from store.bucket import Bucket
from store.files import disk_errors, locked, sync, sync_all
from store.location import Folder, Location, digest_bytes
from store.manifest import JOURNAL, ROOT, read_root
from store.schema import Manifest, StoreError, Table
from store.settings import differences, plain
from store.shards import lay_out
from store.tables import read_table

LOCK = "lock"  # in the journal of a store on a local disk: the lock of the one process that builds
BEGUN = "begun"  # in the journal of a store in a bucket: the digest of the layout that is being put there


@contextmanager
def prepared(location: Location, manifest: Manifest, table: Table) -> Iterator[None]:
    """Bring a store to where units can be written, and keep other builds away if the place can."""
    if isinstance(location, Folder):
        with _held(location, manifest, table):
            yield
    else:
        assert isinstance(location, Bucket)
        with disk_errors(location):
            _prepare_bucket(location, manifest, table)
        yield


@contextmanager
def _held(location: Folder, manifest: Manifest, table: Table) -> Iterator[None]:
    """Lock a store on a local disk and bring it to where units can be written."""
    journal = location.beside(JOURNAL).path
    made = [folder for folder in (journal, *journal.parents) if not folder.exists()]
    with ExitStack() as stack:
        try:
            with disk_errors(location):
                journal.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(journal / LOCK, str(location)))
            with disk_errors(location):
                _prepare_folder(location, manifest, table, new=journal in made)
        except BaseException:
            for folder in made:
                with suppress(OSError):  # another build is at work in it
                    folder.rmdir()
            raise
        yield


def _prepare_folder(location: Folder, manifest: Manifest, table: Table, *, new: bool) -> None:
    """Check or create. A failure takes a journal away that is `new` or of no store."""
    try:
        if location.path.exists():
            _check_same(location, manifest, table)
        else:
            _forget(location.beside(JOURNAL))
            _create_folder(location, lay_out(manifest, table))
        for folder in (location, location.beside(JOURNAL)):
            folder.sweep()
    except BaseException:
        if new or not location.path.exists():
            location.beside(JOURNAL).remove_all()
        raise


def _forget(journal: Location) -> None:
    """Drop the entries of a store that somebody removed: a shard of the new one must not count by an old entry."""
    for name in [name for name in journal.names() if name not in (LOCK, BEGUN)]:
        journal.remove(name)


def _create_folder(location: Folder, files: Mapping[str, bytes]) -> None:
    """Lay out the whole store without its pictures beside its place, then rename it: a store exists or does not."""
    skeleton = Folder(location.beside(JOURNAL).path / "skeleton")
    skeleton.remove_all()
    for name, data in files.items():
        file = skeleton.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    sync_all(skeleton.path / name for name in files)
    skeleton.path.rename(location.path)
    sync(location.path.parent)


def _prepare_bucket(location: Bucket, manifest: Manifest, table: Table) -> None:
    """Check or create; the root is put last, so that a store exists when all of its layout does.

    Of builds that begin at once with unlike settings or sources all but the first to claim the place are refused.
    """
    if location.exists(ROOT):
        _check_same(location, manifest, table)
        return
    journal, files = location.beside(JOURNAL), lay_out(manifest, table)
    if not journal.exists(BEGUN):
        if next(location.names(), None) is not None:
            raise StoreError(f"{location} holds objects and is no store: it has no {ROOT}; choose another STORE=")
        _forget(journal)
    claim = digest_bytes(json.dumps({name: digest_bytes(data) for name, data in files.items()}).encode()).encode()
    if journal.claim(BEGUN, claim) != claim:
        raise StoreError(
            f"{location} was begun with other settings or other sources, or another build is beginning it so; choose "
            f"another STORE=, or, if no other build is at work, remove what is at {location} and at {journal}"
        )
    for name in sorted(files, key=lambda name: name == ROOT):
        location.write(name, files[name])


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
