"""Where the files of tiles go: folders that preparation reads again, and what may be in them before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from prep.tiles.discovery import Data
from prep.tiles.unpaired import tiles_of_row
from store.files import disk_errors
from store.pairs.table import Pair, Table
from store.schema import SettingsError, Split, Stain, StoreError

_LETTERS = {Stain.HE: "A", Stain.IHC: "B"}
_FOLDERS = {Stain.HE: "HE", Stain.IHC: "IHC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A pair whose two tiles become two files, or a tile alone that becomes one."""

    pair: Pair
    files: Mapping[Stain, Path]


def plan_targets(out: Path, table: Table) -> list[Target]:
    """The files of every pair: `HE` and `IHC`, or MIST's folders if the data have several splits."""
    return [
        Target(pair=tile, files={one: out / _folder(table, split, one) / f"{tile.id}.png" for one in tile.stains})
        for split, pairs in table.pairs.items()
        for pair in pairs
        for tile in tiles_of_row(pair)
    ]


def check_folder(out: Path, data: Data, targets: Iterable[Target]) -> None:
    """Raise SettingsError if tiles would lie among the pictures, StoreError if other files lie where they should."""
    for source in {data.he.resolve(), data.ihc.resolve()}:
        if out.resolve() == source or source in out.resolve().parents:
            raise SettingsError(
                f"--out {out} is inside of {source}, where the tiles would be taken for pictures; name another folder"
            )
    due = {file for target in targets for file in target.files.values()}
    with disk_errors(out):
        there = sorted(file for file in out.rglob("*") if file.is_file() and not file.name.startswith("."))
    if strange := [file for file in there if file not in due]:
        raise StoreError(
            f"{out} holds {len(strange)} file(s) that this cut does not make, for example {strange[0]}; they would be "
            "read with the tiles: name an empty folder, or one that the same command began"
        )


def _folder(table: Table, split: Split, stain: Stain) -> str:
    return _FOLDERS[stain] if [*table.pairs] == [Split.TRAIN] else f"{split}{_LETTERS[stain]}"
