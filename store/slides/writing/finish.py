"""From a complete spool to the file: levels, the file beside its place, one rename.

A kill at any point leaves nothing under the final name or all of it, and the same call goes on. The file is written in
the spool's folder, which lies beside its place; a record there says which file it is before it gets its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from store.disk.removing import remove_folder
from store.files import (
    check_record,
    digest_file,
    digest_tree,
    disk_errors,
    files_of,
    read_json,
    sync,
    sync_all,
    write_json,
)
from store.schema import FORBID_UNKNOWN, RunError, StoreError
from store.slides.writing.flat import check_flat, write_flat
from store.slides.writing.labels import Label
from store.slides.writing.levels import make_level
from store.slides.writing.ome_tiff import write_ome_tiff
from store.slides.writing.plan import OutputKind
from store.slides.writing.spool import Spool

DRAFT, RECORD = "draft", "draft.json"
ZARR_FILES = ("zarr.json", ".zgroup")  # one of which a folder has that may be replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A file, or the folder of an OME-Zarr: what it was made with, and the sha256 of its bytes in hex."""

    __pydantic_config__ = FORBID_UNKNOWN

    name: str
    kind: OutputKind
    mpp: float | None
    description: str
    digest: str


def finish(
    spool: Spool,
    out: Path,
    kind: OutputKind,
    mpp: float | None,
    description: str,
    *,
    overwrite: bool = False,
    each: Callable[[int], None] = lambda tiles: None,
) -> Finished:
    """Write a complete spool to `out`, whose parent it is in, and remove it; `each` is told how many tiles are done.

    Raises StoreError if something is at `out` that this spool did not make, unless it may be overwritten; if units are
    missing; if the disk is full: then nothing new is at `out`, and the same call goes on.
    """
    made = Finished(name=out.name, kind=kind, mpp=mpp, description=description, digest="")
    with disk_errors(out):
        found = _record(spool, made)
        if found is None or not (_draft(spool).exists() or _digest(out) == found.digest):
            _check_free(out, overwrite=overwrite)
            found = _write(spool, made, each)
        if _draft(spool).exists():
            _check_free(out, overwrite=overwrite)
            _publish(_draft(spool), out, spool.folder)
        spool.remove()
    return found


def tiles_to_do(spool: Spool, kind: OutputKind) -> int:
    """How many tiles `finish` tells of: those that it writes, and those of levels that it makes."""
    counts = [level.tiles.rows * level.tiles.columns for level in spool.levels()]
    return sum(counts) + sum(counts[1:]) if kind.has_levels else counts[0]


def _write(spool: Spool, made: Finished, each: Callable[[int], None]) -> Finished:
    """Write draft and record, synced."""
    check_flat(made.kind, spool.plan.height, spool.plan.width)
    if pending := spool.pending():
        raise StoreError(
            f"{spool.folder}: {len(pending)} of {len(spool.base.units)} units are missing; make them first"
        )
    label = Label(name=made.name, mpp=made.mpp, description=made.description)
    draft = _draft(spool)
    with _removed_on_error(draft):
        if made.kind.has_levels:
            levels = spool.levels()
            for below, level in pairwise(levels):
                make_level(level, below, lambda: each(1))
            write_ome_tiff(draft, levels, spool.plan.packing, label, each)
        else:
            write_flat(draft, made.kind, spool.base, label, spool.plan.quality)
        sync_all(_files(draft))
    done = Finished(name=made.name, kind=made.kind, mpp=made.mpp, description=made.description, digest=_digest(draft))
    write_json(spool.folder / RECORD, done)
    return done


def _publish(draft: Path, out: Path, folder: Path) -> None:
    """Give the draft its name."""
    if out.is_dir():
        aside = folder / "replaced"
        remove_folder(aside)
        out.rename(aside)
    draft.replace(out)
    sync(out.parent)


def _check_free(out: Path, *, overwrite: bool) -> None:
    if not (out.exists() or out.is_symlink()):
        return
    if not overwrite:
        raise StoreError(f"{out} already exists; choose another name, or allow to overwrite it")
    if out.is_dir() and not any((out / name).is_file() for name in ZARR_FILES):
        raise StoreError(f"{out} is a folder, and no Zarr: it is not overwritten; choose another name")


def _record(spool: Spool, made: Finished) -> Finished | None:
    """What was finished before with the same words, if there is a record of it."""
    file = spool.folder / RECORD
    try:
        found = check_record(Finished, read_json(file, ""), file, "") if file.is_file() else None
    except RunError:
        return None
    same = found and (found.name, found.kind, found.mpp, found.description)
    return found if same == (made.name, made.kind, made.mpp, made.description) else None


def _draft(spool: Spool) -> Path:
    return spool.folder / DRAFT


def _files(path: Path) -> list[Path]:
    return [path / name for name in files_of(path)] if path.is_dir() else [path]


def _digest(path: Path) -> str:
    """The sha256 of a file; of a folder, of the names and digests of its files; empty if there is none."""
    if path.is_dir():
        return digest_tree({name: digest_file(path / name) for name in files_of(path)})
    return digest_file(path) if path.is_file() else ""


@contextmanager
def _removed_on_error(draft: Path) -> Iterator[None]:
    """Give the space of a draft back if it cannot be completed."""
    try:
        yield
    except Exception:
        with suppress(OSError):
            remove_folder(draft)
        raise
