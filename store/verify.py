"""Is a store intact? Every file is read and compared with the digest of it in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.card.record import CARD, is_whole
from store.files import disk_errors
from store.format.arrays import read_array
from store.format.layout import plan_arrays, plan_units
from store.format.manifest import (
    COPY,
    ROOT,
    Root,
    all_units,
    matches_its_seal,
    read_sealed,
    root_bytes,
)
from store.location.base import Location
from store.location.open import locate
from store.schema import Manifest, Split, StoreError

READS = 16  # files of a unit that are read at the same time
UNKNOWN = ""  # in place of the digest of a shard, where the table of digests is damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is wrong with a store; file names are relative to it, the name of a stray folder ends in a slash.

    `checked` counts files. `unchecked` are shards that exist, but the table of their digests is damaged.
    """

    checked: int
    missing: tuple[str, ...]
    altered: tuple[str, ...]
    extra: tuple[str, ...]
    unchecked: tuple[str, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.missing or self.altered or self.extra or self.unchecked)


def verify(address: Location | Path | str, watch: Callable[[list[str]], Iterable[str]] = iter) -> Findings:
    """Check every byte of a sealed store. `watch` may wrap the list of files in a progress bar.

    Raises StoreError if there is no sealed store.
    """
    location = locate(address)
    root = read_sealed(location)
    expected = {**root.files, **_shard_digests(location, root)}
    with disk_errors(location):
        present = {name for name in location.names() if name != ROOT}
    copies, cards = present & {COPY}, present & {CARD}  # stores of earlier versions have none
    present -= copies | cards
    known = sorted(name for name in present & expected.keys() if expected[name] != UNKNOWN)
    changed = [name for name in watch(known) if not agrees(location, name, expected[name])]
    sound = root.computed_seal() == root.manifest.seal
    if not sound:
        changed.append(ROOT)
    copied = [root_bytes(location, name) for name in copies]
    changed += [COPY for copy in copied if not matches_its_seal(copy) or (sound and copy != root.document)]
    changed += [CARD for card in cards if not is_whole(root_bytes(location, card), root.manifest.seal)]
    strays = location.stray_folders(present | expected.keys())
    return Findings(
        checked=len(known) + 1 + len(copies) + len(cards),
        missing=tuple(sorted(expected.keys() - present)),
        altered=tuple(sorted(changed)),
        extra=tuple(sorted((present - expected.keys()).union(strays))),
        unchecked=tuple(sorted(name for name in present & expected.keys() if expected[name] == UNKNOWN)),
    )


def digest_table(location: Location, manifest: Manifest, files: Mapping[str, str], split: Split) -> NDArray[np.uint8]:
    """The digests of the shards of a split, u8 [unit, array, 32]; empty if the table is damaged.

    `files` are the digests of documents in the root; without them only the checksums in the table are compared.
    """
    name = f"{split}/unit/digest"
    damaged = np.empty(0, np.uint8)
    if not all(agrees(location, file, digest) for file, digest in files.items() if file.startswith(f"{name}/")):
        return damaged
    try:
        table = read_array(location, name)
    except StoreError:
        return damaged
    return table if table.shape == digests_shape(manifest, split) and table.dtype == np.uint8 else damaged


def digests_shape(manifest: Manifest, split: Split) -> tuple[int, int, int]:
    """The shape of the table of digests of a split: units, arrays, bytes of a digest."""
    units = plan_units(split, manifest.counts[split], manifest.unit)
    return len(units), len(plan_arrays(manifest, split)), 32


def agrees(location: Location, name: str, digest: str) -> bool:
    """Whether a file has this digest; False if it is missing or the disk cannot read it.

    Raises StoreError if object storage does not answer: then nothing is known about the file.
    """
    try:
        return location.digest(name) == digest
    except OSError as error:
        if error.errno is None:
            raise StoreError(f"{name} of {location} cannot be read: {error}") from error
        return False


def altered(location: Location, expected: Mapping[str, str]) -> list[str]:
    """The files that do not have these digests, in order; several are read at once."""
    with ThreadPoolExecutor(READS) as pool:
        sound = pool.map(lambda name: agrees(location, name, expected[name]), expected)
        return [name for name, one in zip(expected, sound, strict=True) if not one]


def _shard_digests(location: Location, root: Root) -> dict[str, str]:
    """The digest of every shard by file name, from the tables of digests."""
    tables = {split: digest_table(location, root.manifest, root.files, split) for split in root.manifest.counts}
    return {
        plan.shard_name(unit): tables[unit.split][unit.index, place].tobytes().hex()
        if tables[unit.split].size
        else UNKNOWN
        for unit in all_units(root.manifest)
        for place, plan in enumerate(plan_arrays(root.manifest, unit.split))
    }


def describe(address: Location | Path | str, findings: Findings) -> str:
    """The findings in words: a line with the numbers and the command that repairs the store, then a line per file."""
    if findings.intact:
        return f"{address} is intact: {findings.checked:,} files match their digests"
    kinds = {
        "missing": findings.missing,
        "altered": findings.altered,
        "extra": findings.extra,
        "cannot be checked": findings.unchecked,
    }
    counts = ", ".join(f"{len(names):,} {kind}" for kind, names in kinds.items() if names)
    lost = findings.missing or findings.altered or findings.unchecked
    remedies = ["remove the extra files"] if findings.extra else []
    if lost:
        command = f"python -m prep build --repair --store '{address}' --data DIR"
        remedies.append(f"repair it with `{command}` (DIR: the folder of its tiles)")
    lines = [f"  {kind}: {name}" for kind, names in kinds.items() for name in names]
    head = f"{address} is damaged ({counts}; {findings.checked:,} files checked): {', then '.join(remedies)}"
    return "\n".join([head, *lines])
