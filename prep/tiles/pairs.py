"""Find and pair the tiles of any layout, name their slides, give each pair its split.

The two tiles of a pair have the same path below their folders, without suffix. Only names are read here, no picture.
Tiles without a counterpart are collected; whether they stop a build is the caller's choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from prep.settings import Layout, PrepSettings, SplitRule, how_to_set
from prep.tiles.layouts import DataSet, Part, Sources, find_data_set, list_pictures, two_folders
from prep.tiles.splits import Slides, slides_by_grid, slides_by_pattern, split_by_slide
from store.images import SUFFIXES
from store.schema import PairingError, Skipped, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Where the tiles are: one data folder, or (`he` and `ihc` differ) one folder for each stain."""

    he: Path
    ihc: Path

    @property
    def single(self) -> bool:
        """Whether one folder holds everything, in a layout that is read from its folders."""
        return self.he == self.ihc

    @property
    def name(self) -> str:
        """The name of the data set unless a setting gives one."""
        return self.he.resolve().name if self.single else self.he.resolve().parent.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Two tiles that belong together by name; their pictures are not read yet. Names as in `Pair`."""

    id: str
    split: Split
    slide: str
    he: str
    ihc: str


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


def find_pairs(settings: PrepSettings, data: Data) -> Discovery:
    """The candidates in the data folders, in the split that the settings ask for. Raises PairingError."""
    if data.single:
        found = discover(data.he, settings.layout, settings.slide_pattern)
    else:
        found = discover_folders(data.he, data.ihc, settings.slide_pattern)
    if not found.candidates:
        raise PairingError(_no_pair(data, found))
    seed, val_fraction = settings.seed, settings.val_fraction
    if settings.split is SplitRule.BY_SLIDE:
        return resplit(found, seed=seed, val_fraction=val_fraction, test_fraction=settings.test_fraction)
    if not found.published:
        raise PairingError(
            f"{data.he}: layout {found.layout} has no test set of its own, and split = published needs one; "
            f"set split=by-slide to hold slides out for test: {how_to_set('split=by-slide')}"
        )
    return hold_out_val(found, seed=seed, val_fraction=val_fraction) if val_fraction else found


def discover(data: Path, layout: Layout = Layout.AUTO, slide_pattern: str = "") -> Discovery:
    """The candidates in a data folder; without a pattern slides are named by `<slide>_<row>_<column>`."""
    return _discover(find_data_set(data, layout), slide_pattern)


def discover_folders(he: Path, ihc: Path, slide_pattern: str = "") -> Discovery:
    """The candidates in two folders, one per stain."""
    return _discover(two_folders(he, ihc), slide_pattern)


def resplit(discovery: Discovery, *, seed: int, val_fraction: float, test_fraction: float) -> Discovery:
    """The same candidates in a split in which no slide occurs twice, whatever split was published."""
    tiles = Counter(candidate.slide for candidate in discovery.candidates)
    splits = split_by_slide(tiles, seed=seed, val_fraction=val_fraction, test_fraction=test_fraction)
    return _assign(discovery, [splits[candidate.slide] for candidate in discovery.candidates])


def hold_out_val(discovery: Discovery, *, seed: int, val_fraction: float) -> Discovery:
    """The published split with some slides of train held out as `val`."""
    tiles = Counter(candidate.slide for candidate in discovery.candidates if candidate.split is Split.TRAIN)
    splits = split_by_slide(tiles, seed=seed, val_fraction=val_fraction, test_fraction=0)
    return _assign(discovery, [splits[c.slide] if c.split is Split.TRAIN else c.split for c in discovery.candidates])


def _discover(data_set: DataSet, slide_pattern: str) -> Discovery:
    candidates: list[Candidate] = []
    unpaired: list[Skipped] = []
    ignored: list[str] = []
    for part in data_set.parts:
        he, more = _tiles(part.he, data_set.sources.he)
        ignored += more
        ihc = he
        if not data_set.sources.joined:
            ihc, more = _tiles(part.ihc, data_set.sources.ihc)
            ignored += more
        candidates += [
            Candidate(id=tile, split=part.split, slide="", he=he[tile], ihc=ihc[tile])
            for tile in he.keys() & ihc.keys()
        ]
        unpaired += [_unpaired(part, tile, he, ihc) for tile in he.keys() ^ ihc.keys()]
    candidates.sort(key=_row)
    slides = _name_slides(data_set, candidates, slide_pattern)
    return Discovery(
        layout=data_set.layout,
        sources=data_set.sources.absolute(),
        published=data_set.published,
        candidates=tuple(replace(c, slide=slide) for c, slide in zip(candidates, slides.names, strict=True)),
        unpaired=tuple(sorted(unpaired, key=lambda tile: (tile.he == "", _row(tile)))),
        notes=(*_ignored_note(ignored), *slides.notes),
    )


def _tiles(folder: Path, root: Path) -> tuple[dict[str, str], list[str]]:
    """Source name of each tile by its id, and the names of files that are no pictures, relative to `root`."""
    prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    listing = list_pictures(folder)
    if not listing.pictures:
        raise PairingError(f"{folder}: holds no pictures ({', '.join(sorted(SUFFIXES))}); put the tiles there")
    tiles: dict[str, str] = {}
    for name in listing.pictures:
        tile = name.removesuffix(PurePosixPath(name).suffix)
        if tile in tiles:
            raise PairingError(
                f"{tiles[tile]!r} and {prefix + name!r} have the same name without suffix; keep one of them"
            )
        tiles[tile] = prefix + name
    return tiles, [prefix + name for name in listing.ignored]


def _unpaired(part: Part, tile: str, he: dict[str, str], ihc: dict[str, str]) -> Skipped:
    missing, folder = ("IHC", part.ihc) if tile in he else ("H&E", part.he)
    return Skipped(
        id=tile,
        split=part.split,
        he=he.get(tile, ""),
        ihc=ihc.get(tile, ""),
        reason=f"no {missing} tile of that name in {folder.name}",
    )


def _no_pair(data: Data, found: Discovery) -> str:
    """The error if no names agree: how many tiles each stain has, with a name of each."""
    he, ihc = ([name for name in names if name] for names in zip(*((t.he, t.ihc) for t in found.unpaired), strict=True))
    where = data.he if data.single else f"{data.he} and {data.ihc}"
    return (
        f"{where}: no pair was found: no H&E and IHC tile have the same name; {len(he)} H&E tile(s), for example "
        f"{he[0]!r}, and {len(ihc)} IHC tile(s), for example {ihc[0]!r}; give the two tiles of a pair the same name "
        "(suffixes such as .png may differ)"
    )


def _name_slides(data_set: DataSet, candidates: Sequence[Candidate], pattern: str) -> Slides:
    ids = [candidate.id for candidate in candidates]
    if not ids:
        return Slides(names=())
    if pattern:
        return slides_by_pattern(ids, pattern)
    owners = [
        f"{c.split}/{c.id}" if data_set.published else c.id for c in candidates
    ]  # train and test may share a name
    return slides_by_grid(ids, owners)  # names of BCI say no slide: their number counts the tiles of a split


def _assign(discovery: Discovery, splits: Iterable[Split]) -> Discovery:
    """Move the candidates to their splits; an id may occur only once in each."""
    moved = [replace(c, split=split) for c, split in zip(discovery.candidates, splits, strict=True)]
    first: dict[tuple[Split, str], Candidate] = {}
    for candidate in moved:
        other = first.setdefault((candidate.split, candidate.id), candidate)
        if other is not candidate:
            raise PairingError(
                f"{other.he!r} and {candidate.he!r} would both be {candidate.id!r} in {candidate.split}; "
                f"rename one of the pairs, or keep the published split: {how_to_set('split=published')}"
            )
    return replace(discovery, candidates=tuple(sorted(moved, key=_row)))


def _row(tile: Candidate | Skipped) -> tuple[int, str]:
    return list(Split).index(tile.split), tile.id


def _ignored_note(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    shown = ", ".join(repr(name) for name in names[:3]) + (", …" if len(names) > 3 else "")
    return (f"ignored {len(names)} file(s) that are no pictures: {shown}",)
