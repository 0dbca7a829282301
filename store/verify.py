"""Is a store whole? Every file is read and compared with the digest that the store itself holds of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from store.arrays import plan_arrays
from store.files import digest_file, files_of
from store.manifest import ROOT, Root, all_units, read_sealed
from store.schema import Split, StoreError
from store.tables import read_array

UNKNOWN = ""  # the digest of a shard whose table of digests is damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is wrong with a store; file names are relative to it, a stray folder's ends in a slash.

    `unchecked` shards are there, but the table of their digests is damaged.
    """

    checked: int
    missing: tuple[str, ...]
    altered: tuple[str, ...]
    extra: tuple[str, ...]
    unchecked: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Nothing is wrong."""
        return not (self.missing or self.altered or self.extra or self.unchecked)


def verify(path: Path, watch: Callable[[list[str]], Iterable[str]] = iter) -> Findings:
    """Check every byte of a sealed store. `watch` may wrap the list of files in a progress bar.

    Raises StoreError if there is no sealed store to check.
    """
    root = read_sealed(path)
    expected = {**root.files, **_shard_digests(path, root)}
    present = {name for name in files_of(path) if name != ROOT}
    known = sorted(name for name in present & expected.keys() if expected[name] != UNKNOWN)
    altered = [name for name in watch(known) if not _agrees(path / name, expected[name])]
    if root.seal() != root.manifest.seal:
        altered.append(ROOT)
    return Findings(
        checked=len(known) + 1,
        missing=tuple(sorted(expected.keys() - present)),
        altered=tuple(sorted(altered)),
        extra=tuple(sorted((present - expected.keys()).union(_stray_folders(path, present | expected.keys())))),
        unchecked=tuple(sorted(name for name in present & expected.keys() if expected[name] == UNKNOWN)),
    )


def _shard_digests(path: Path, root: Root) -> dict[str, str]:
    """The digest of every shard by its name, as the tables of digests hold it."""
    tables = {split: _digest_table(path, root, split) for split in root.manifest.counts}
    return {
        plan.shard_name(unit): tables[unit.split][unit.index, place].tobytes().hex()
        if tables[unit.split].size
        else UNKNOWN
        for unit in all_units(root.manifest)
        for place, plan in enumerate(plan_arrays(root.manifest, unit.split))
    }


def _digest_table(path: Path, root: Root, split: Split) -> NDArray[np.uint8]:
    """The digests of a split's shards, u8 [unit, array, 32]; empty if the table is damaged."""
    name = f"{split}/unit/digest"
    units = sum(unit.split is split for unit in all_units(root.manifest))
    shape = (units, len(plan_arrays(root.manifest, split)), 32)
    files = [file for file in root.files if file.startswith(f"{name}/")]
    damaged = np.empty(0, np.uint8)
    if not all(_agrees(path / file, root.files[file]) for file in files):
        return damaged
    try:
        table = read_array(zarr.open_group(path, mode="r"), name)
    except StoreError:
        return damaged
    return table if table.shape == shape else damaged


def _agrees(file: Path, digest: str) -> bool:
    """Whether a file has this digest; one that a bad disk cannot read has not."""
    try:
        return digest_file(file) == digest
    except OSError:
        return False


def _stray_folders(path: Path, files: Set[str]) -> Iterator[str]:
    """Folders that hold none of the files: bare zarr stumbles over them."""
    needed = {folder.as_posix() for file in files for folder in Path(file).parents}
    for folder in path.rglob("*"):
        if folder.is_dir() and (name := folder.relative_to(path).as_posix()) not in needed:
            yield f"{name}/"


def describe(path: Path, findings: Findings) -> str:
    """The findings for a person: what is wrong, then what to do."""
    if findings.whole:
        return f"{path} is whole: {findings.checked} files agree with their digests"
    kinds = {
        "missing": findings.missing,
        "altered": findings.altered,
        "extra": findings.extra,
        "cannot be checked": findings.unchecked,
    }
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in kinds.items() if names)
    lost = findings.missing or findings.altered or findings.unchecked
    remedy = (
        f"bring these files back from a copy, or build it again: rm -rf '{path}', then the `prep build` that made it"
        if lost
        else "remove what is extra"
    )
    lines = [f"  {kind}: {name}" for kind, names in kinds.items() for name in names]
    return "\n".join([f"{path} is not whole ({counts}; {findings.checked} files checked): {remedy}", *lines])
