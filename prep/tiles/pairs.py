"""Find and pair the tiles of any layout, name their slides, give each pair its split.

The two tiles of a pair are those with the same path below their folders, suffix apart. Names only: no picture is read.
Tiles without a counterpart are collected as facts; whether they stop the build is the caller's choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from prep.settings import Layout
from prep.tiles.layouts import Part, Place, Sources, list_pictures, locate, locate_folders
from prep.tiles.splits import Slides, slides_by_grid, slides_by_pattern, split_by_slide
from store.images import SUFFIXES
from store.schema import PairingError, Skipped, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Two tiles that belong together by name; nothing is known of their pictures. Names as in `Pair`."""

    id: str
    split: Split
    slide: str
    he: str
    ihc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What stands in a data folder: candidates in the order of (split, id), tiles left alone, and what to know.

    `published` says whether the folders hold a test set apart; otherwise every candidate is in train.
    """

    layout: Layout
    sources: Sources
    published: bool
    candidates: tuple[Candidate, ...]
    unpaired: tuple[Skipped, ...]
    notes: tuple[str, ...]


def discover(data: Path, layout: Layout = Layout.AUTO, slide_pattern: str = "") -> Discovery:
    """The candidates in a data folder; an empty pattern stands for the layout's own way to name slides."""
    return _discover(locate(data, layout), slide_pattern)


def discover_folders(he: Path, ihc: Path, slide_pattern: str = "") -> Discovery:
    """The candidates in two folders, one per stain."""
    return _discover(locate_folders(he, ihc), slide_pattern)


def resplit(discovery: Discovery, *, seed: int, val_fraction: float, test_fraction: float) -> Discovery:
    """The same candidates in a split in which every slide stands on one side, whatever split was published."""
    tiles = Counter(candidate.slide for candidate in discovery.candidates)
    splits = split_by_slide(tiles, seed=seed, val_fraction=val_fraction, test_fraction=test_fraction)
    return _assign(discovery, [splits[candidate.slide] for candidate in discovery.candidates])


def hold_out_val(discovery: Discovery, *, seed: int, val_fraction: float) -> Discovery:
    """The published split with whole slides of train held out as `val`."""
    tiles = Counter(candidate.slide for candidate in discovery.candidates if candidate.split is Split.TRAIN)
    splits = split_by_slide(tiles, seed=seed, val_fraction=val_fraction, test_fraction=0)
    return _assign(discovery, [splits[c.slide] if c.split is Split.TRAIN else c.split for c in discovery.candidates])


def _discover(place: Place, slide_pattern: str) -> Discovery:
    candidates: list[Candidate] = []
    unpaired: list[Skipped] = []
    ignored: list[str] = []
    for part in place.parts:
        he, more = _tiles(part.he, place.sources.he)
        ignored += more
        ihc = he
        if not place.sources.joined:
            ihc, more = _tiles(part.ihc, place.sources.ihc)
            ignored += more
        candidates += [
            Candidate(id=tile, split=part.split, slide="", he=he[tile], ihc=ihc[tile])
            for tile in he.keys() & ihc.keys()
        ]
        unpaired += [_unpaired(part, tile, he, ihc) for tile in he.keys() ^ ihc.keys()]
    candidates.sort(key=_row)
    slides = _name_slides(place, candidates, slide_pattern)
    return Discovery(
        layout=place.layout,
        sources=place.sources,
        published=place.published,
        candidates=tuple(replace(c, slide=slide) for c, slide in zip(candidates, slides.names, strict=True)),
        unpaired=tuple(sorted(unpaired, key=lambda tile: (tile.he == "", _row(tile)))),
        notes=(*_ignored_note(ignored), *slides.notes),
    )


def _tiles(folder: Path, root: Path) -> tuple[dict[str, str], list[str]]:
    """Source name of each tile by its id, and the names of what is no picture, both names relative to `root`."""
    prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    listing = list_pictures(folder)
    if not listing.pictures:
        raise PairingError(f"{folder}: holds no pictures ({', '.join(sorted(SUFFIXES))}); put the tiles there")
    tiles: dict[str, str] = {}
    for name in listing.pictures:
        tile = name.removesuffix(PurePosixPath(name).suffix)
        if tile in tiles:
            raise PairingError(f"{tiles[tile]!r} and {prefix + name!r} have one name, suffix apart; keep one of them")
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


def _name_slides(place: Place, candidates: Sequence[Candidate], pattern: str) -> Slides:
    ids = [candidate.id for candidate in candidates]
    if not ids:
        return Slides(names=())
    if pattern:
        return slides_by_pattern(ids, pattern)
    owners = [f"{c.split}/{c.id}" if place.published else c.id for c in candidates]  # equal names are not equal tiles
    return slides_by_grid(ids, owners)  # BCI's names tell none: their number counts tiles, in train and test anew


def _assign(discovery: Discovery, splits: Iterable[Split]) -> Discovery:
    """Move the candidates to their splits; an id may stand only once in each."""
    moved = [replace(c, split=split) for c, split in zip(discovery.candidates, splits, strict=True)]
    first: dict[tuple[Split, str], Candidate] = {}
    for candidate in moved:
        other = first.setdefault((candidate.split, candidate.id), candidate)
        if other is not candidate:
            raise PairingError(
                f"{other.he!r} and {candidate.he!r} would both be {candidate.id!r} in {candidate.split}; "
                "rename one of the pairs, or keep the published split"
            )
    return replace(discovery, candidates=tuple(sorted(moved, key=_row)))


def _row(tile: Candidate | Skipped) -> tuple[int, str]:
    return list(Split).index(tile.split), tile.id


def _ignored_note(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    shown = ", ".join(repr(name) for name in names[:3]) + (", …" if len(names) > 3 else "")
    return (f"ignored {len(names)} file(s) that are no pictures: {shown}",)
