"""Pair the tiles of a data set: which H&E and IHC tile belong together, and which have no counterpart.

The two tiles of a pair have the same path below their folders, without suffix. Only names are read here, no picture.
Tiles without a counterpart are collected; whether they stop a build is the caller's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from prep.settings import Layout
from prep.tiles.layouts import DataSet, Part, Sources
from store.pairs.table import Skipped
from store.schema import PairingError, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Two tiles that belong together by name; their pictures are not read yet. Names as in `Pair`."""

    id: str
    split: Split
    slide: str
    he: str
    ihc: str

    @property
    def rank(self) -> tuple[int, str]:
        """The place of a candidate among others."""
        return list(Split).index(self.split), self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """The contents of a data folder: candidates in the order of (split, id), tiles without counterpart, notes.

    `published` says whether the folders contain a test set; otherwise every candidate is in train.
    """

    layout: Layout
    sources: Sources
    published: bool
    candidates: tuple[Candidate, ...]
    unpaired: tuple[Skipped, ...]
    notes: tuple[str, ...]


def pair_tiles(data_set: DataSet) -> Discovery:
    """The candidates of a data set in its published split, their slides not named yet. Raises PairingError."""
    candidates: list[Candidate] = []
    unpaired: list[Skipped] = []
    for part in data_set.parts:
        he = _names_by_id(data_set, part.he, data_set.sources.he)
        ihc = he if data_set.sources.joined else _names_by_id(data_set, part.ihc, data_set.sources.ihc)
        candidates += [
            Candidate(id=tile, split=part.split, slide="", he=he[tile], ihc=ihc[tile])
            for tile in he.keys() & ihc.keys()
        ]
        unpaired += [_unpaired(part, tile, he, ihc) for tile in sorted(he.keys() ^ ihc.keys())]
    unpaired.sort(key=lambda tile: (tile.he == "", list(Split).index(tile.split), tile.id))
    return Discovery(
        layout=data_set.layout,
        sources=data_set.sources.absolute(),
        published=data_set.published,
        candidates=tuple(sorted(candidates, key=lambda candidate: candidate.rank)),
        unpaired=tuple(unpaired),
        notes=_ignored_note(data_set),
    )


def _names_by_id(data_set: DataSet, folder: Path, root: Path) -> dict[str, str]:
    """Source name of each tile in a folder by its id; source names are relative to `root`."""
    tiles: dict[str, str] = {}
    for name in data_set.listings[folder].pictures:
        tile, source = name.removesuffix(PurePosixPath(name).suffix), _source_name(folder, root, name)
        if other := tiles.get(tile):
            raise PairingError(f"{other!r} and {source!r} have the same name without suffix; keep one of them")
        tiles[tile] = source
    return tiles


def _source_name(folder: Path, root: Path, name: str) -> str:
    """The name of a file below `folder`, relative to `root`."""
    return name if folder == root else f"{folder.relative_to(root).as_posix()}/{name}"


def _unpaired(part: Part, tile: str, he: dict[str, str], ihc: dict[str, str]) -> Skipped:
    missing, folder = ("IHC", part.ihc) if tile in he else ("H&E", part.he)
    return Skipped(
        id=tile,
        split=part.split,
        he=he.get(tile, ""),
        ihc=ihc.get(tile, ""),
        reason=f"no {missing} tile of that name in {folder.name}",
    )


def _ignored_note(data_set: DataSet) -> tuple[str, ...]:
    """A note on the files that are no pictures, if there are any."""
    roots: dict[Path, Path] = {}
    for part in data_set.parts:
        roots |= {part.he: data_set.sources.he, part.ihc: data_set.sources.ihc}
    ignored = [(folder, name) for folder in roots for name in data_set.listings[folder].ignored]
    if not ignored:
        return ()
    shown = ", ".join(repr(_source_name(folder, roots[folder], name)) for folder, name in ignored[:3])
    shown += ", …" if len(ignored) > 3 else ""
    return (f"ignored {len(ignored)} file(s) that are no pictures: {shown}",)
