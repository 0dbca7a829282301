"""From a complete spool to the file: levels, the file beside its place, one rename.

A kill at any point leaves nothing under the final name or all of it, and the same call goes on. The file is written in
the spool's folder, which lies beside its place; a record there says which file it is before it gets its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
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
from store.slides.writing.labels import Label, one_line
from store.slides.writing.levels import make_level
from store.slides.writing.ome_tiff import write_ome_tiff
from store.slides.writing.ome_zarr import write_ome_zarr
from store.slides.writing.plan import PACKINGS, OutputKind
from store.slides.writing.spool import RECORD, Spool

DRAFT, REPLACED = "draft", "replaced"
ZARR_FILES = ("zarr.json", ".zgroup")  # one of which a folder has that may be replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A file, or the folder of an OME-Zarr: what it was made with, and the sha256 of its bytes in hex."""

    __pydantic_config__ = FORBID_UNKNOWN

    name: str
    kind: OutputKind
    mpp: float | None
    description: str
    digest: str = ""


def finish(
    spool: Spool,
    out: Path,
    kind: OutputKind,
    mpp: float | None,
    description: str,
    *,
    overwrite: bool = False,
    each: Callable[[int], None] = lambda tiles: None,
    told: Callable[[Finished], None] = lambda finished: None,
) -> Finished:
    """Write a complete spool to `out`, beside which it is; `each` is told how many tiles are done.

    `told` is called once the file has its name, so that what belongs to it can be written before the spool is removed.
    Raises StoreError if something is at `out` that this spool did not make, unless it may be overwritten; if units are
    missing; if the disk is full: then nothing new is at `out`, and the same call goes on.
    """
    wanted = Finished(name=one_line(out.name), kind=kind, mpp=mpp, description=one_line(description))
    with disk_errors(out):
        made = _recorded(spool, wanted)
        if made is None or not (_draft(spool).exists() or is_made(spool, out)):
            _check_free(out, overwrite=overwrite)
            made = _write(spool, wanted, each)
        if _draft(spool).exists():
            _check_free(out, overwrite=overwrite)
            _publish(_draft(spool), out, spool.folder / REPLACED)
    told(made)
    spool.remove()
    return made


def is_made(spool: Spool, out: Path) -> bool:
    """Whether `out` is what this spool was written to: then its units are no longer needed, and `finish` ends soon."""
    made = _recorded(spool, None)
    return made is not None and made.name == one_line(out.name) and digest_output(out) == made.digest


def is_finishing(folder: Path) -> bool:
    """Whether the spool in a folder was complete, so that what is at the output's place may be its result."""
    return (folder / RECORD).is_file()


def tiles_to_do(spool: Spool, kind: OutputKind) -> int:
    """How many tiles `finish` tells of: those that it writes, and those of the levels that it makes."""
    counts = [level.tiles.rows * level.tiles.columns for level in spool.levels()]
    return sum(counts) + sum(counts[1:]) if kind.has_levels else counts[0]


def _write(spool: Spool, wanted: Finished, each: Callable[[int], None]) -> Finished:
    """Write the draft and the record of it, synced."""
    assert spool.plan.packing in PACKINGS[wanted.kind], (spool.plan.packing, wanted.kind)
    check_flat(wanted.kind, spool.plan.height, spool.plan.width)
    if pending := spool.pending():
        raise StoreError(
            f"{spool.folder} is unfinished: {len(pending)} of {len(spool.base.units)} parts are missing or damaged; "
            "the same command makes them"
        )
    label = Label(name=wanted.name, mpp=wanted.mpp, description=wanted.description)
    draft = _draft(spool)
    with _removed_on_error(draft):
        (spool.folder / RECORD).unlink(missing_ok=True)  # of a draft that is overwritten
        _write_draft(draft, spool, wanted.kind, label, each)
        sync_all(_files(draft))
        made = replace(wanted, digest=digest_output(draft))
        write_json(spool.folder / RECORD, made)
    return made


def _write_draft(draft: Path, spool: Spool, kind: OutputKind, label: Label, each: Callable[[int], None]) -> None:
    if not kind.has_levels:
        with draft.open("wb") as file:
            write_flat(file, kind, spool.levels()[0], label, spool.plan.quality, each)
        return
    levels = spool.levels()
    for below, level in pairwise(levels):
        make_level(level, below, each)
    if kind is OutputKind.OME_TIFF:
        write_ome_tiff(draft, levels, spool.plan.packing, label, each)
    else:
        write_ome_zarr(draft, levels, label, each)


def _publish(draft: Path, out: Path, aside: Path) -> None:
    """Give the draft its name; a folder cannot be replaced in one step, so it is moved aside."""
    if out.exists() and (out.is_dir() or draft.is_dir()):
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


def _recorded(spool: Spool, wanted: Finished | None) -> Finished | None:
    """The record of what the spool was written to; None if there is none, or it is of another than `wanted`."""
    file = spool.folder / RECORD
    try:
        made = check_record(Finished, read_json(file, ""), file, "") if file.is_file() else None
    except RunError:
        return None
    return made if made is None or wanted in (None, replace(made, digest="")) else None


def _draft(spool: Spool) -> Path:
    return spool.folder / DRAFT


def _files(path: Path) -> list[Path]:
    return [path / name for name in files_of(path)] if path.is_dir() else [path]


def digest_output(path: Path) -> str:
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
