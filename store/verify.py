"""Is a store whole? Every file is read and compared with the digest that the store itself holds of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from store.arrays import plan_arrays
from store.files import digest_file, files_of
from store.manifest import Root, all_units, read_root
from store.reader import Store
from store.tables import array_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is wrong with a store; file names are relative to it."""

    checked: int
    missing: tuple[str, ...]
    altered: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Nothing is wrong."""
        return not (self.missing or self.altered or self.extra)


def verify(path: Path, watch: Callable[[list[str]], Iterator[str]] = iter) -> Findings:
    """Check every byte of a sealed store. `watch` may wrap the list of files in a progress bar.

    Raises StoreError if there is no sealed store to check.
    """
    store = Store.open(path)
    root = read_root(path)
    altered = [] if root.seal() == store.manifest.seal else ["zarr.json"]
    expected = {**root.files, **_shard_digests(path, root, altered)}
    present = {name for name in files_of(path) if name != "zarr.json"}
    altered += [
        name
        for name in watch(sorted(present & expected.keys()))
        if name not in altered and digest_file(path / name) != expected[name]
    ]
    return Findings(
        checked=len(present) + 1,
        missing=tuple(sorted(expected.keys() - present)),
        altered=tuple(sorted(altered)),
        extra=tuple(sorted(present - expected.keys())),
    )


def _shard_digests(path: Path, root: Root, altered: list[str]) -> dict[str, str]:
    """The digest of every shard by its name, as the digest arrays hold it. An unreadable array is noted as altered."""
    group = zarr.open_group(path, mode="r")
    digests: dict[str, NDArray[np.uint8]] = {}
    for split in root.manifest.counts:
        name = f"{split}/unit/digest"
        files = [file for file in root.files if file.startswith(f"{name}/")]
        broken = [file for file in files if not (path / file).is_file() or digest_file(path / file) != root.files[file]]
        if broken:
            altered += [file for file in broken if (path / file).is_file()]
        else:
            digests[split] = np.asarray(array_at(group, name)[...])
    return {
        plan.shard_name(unit): digests[unit.split][unit.index, place].tobytes().hex()
        for unit in all_units(root.manifest)
        if unit.split in digests
        for place, plan in enumerate(plan_arrays(root.manifest, unit.split))
    }


def describe(path: Path, findings: Findings) -> str:
    """The findings for a person: what is wrong, then what to do."""
    if findings.whole:
        return f"{path} is whole: {findings.checked} files agree with their digests"
    kinds = {"missing": findings.missing, "altered": findings.altered, "extra": findings.extra}
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in kinds.items() if names)
    lines = [f"  {kind}: {name}" for kind, names in kinds.items() for name in names]
    remedy = "bring these files back from a copy, or remove the store and build it again"
    return "\n".join([f"{path} is not whole ({counts}; {findings.checked} files checked): {remedy}", *lines])
