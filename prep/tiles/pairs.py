"""Pair the tiles of a data set: which H&E and IHC tile belong together, and which have no counterpart.

The two tiles of a pair have the same path below their folders, without suffix, or what a template leaves of it. Only
names are read here, no picture. Tiles without a counterpart are collected; whether they stop a build is the caller's
choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prep.settings import Layout
from prep.tiles.folders.known import tell_parts
from prep.tiles.layouts import ASIDE, DataSet, Sources, SplitTiles, Tile
from prep.tiles.names.naming import Hint, Naming, pair_id, suggest
from store.pairs.table import Skipped
from store.schema import PairingError, Split, Stain

FOLDERS_NAMED = 6
SAME = Naming()
UNFIT = "picture(s) whose names fit no template"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Two tiles that belong together by name; their pictures are not read yet. Names as in `Pair`.

    Where tiles are no pairs, it is one tile: the name of the other stain is empty.
    """

    id: str
    split: Split
    slide: str
    he: str
    ihc: str

    @property
    def rank(self) -> tuple[int, str, bool]:
        """The place of a candidate among others."""
        return list(Split).index(self.split), self.id, not self.he

    @property
    def stains(self) -> tuple[Stain, ...]:
        """The stains that it has a tile of."""
        return tuple(stain for stain, name in ((Stain.HE, self.he), (Stain.IHC, self.ihc)) if name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """The contents of a data folder: candidates in the order of (split, id), tiles without counterpart, notes.

    `published` says whether the folders contain a test set; otherwise every candidate is in train. `read_as` says how
    the folders were read, `hint` which settings would pair more of the names or what of the data is missing, `doubt`
    why there may be no test set, `slides_named` whether the candidates have their slides.
    """

    layout: Layout
    sources: Sources
    published: bool
    candidates: tuple[Candidate, ...]
    unpaired: tuple[Skipped, ...]
    notes: tuple[str, ...]
    read_as: str
    slides_named: bool = False
    hint: str = ""
    doubt: str = ""
    paired: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The tiles of a split by the key of their id, with the id, and the tiles whose names fit no template."""

    he: Mapping[str, tuple[str, Tile]]
    ihc: Mapping[str, tuple[str, Tile]]
    strange: int


def pair_tiles(data_set: DataSet, naming: Naming = SAME) -> Discovery:
    """The candidates of a data set in its published split, their slides not named yet. Raises PairingError."""
    candidates: list[Candidate] = []
    unpaired: list[Skipped] = []
    strange = 0
    for tiles in data_set.splits:
        named = name_tiles(tiles, naming)
        strange += named.strange
        candidates += [
            Candidate(id=one, split=tiles.split, slide="", he=tile.source, ihc=named.ihc[key][1].source)
            for key, (one, tile) in named.he.items()
            if key in named.ihc
        ]
        unpaired += [_unpaired(tiles, key, named) for key in sorted(named.he.keys() ^ named.ihc.keys())]
    missing = _tell_missing(data_set, candidates)
    hint = _hint(data_set, naming, len(candidates)) if unpaired or not candidates else None
    hints = [str(one) for one in (hint, missing if unpaired else "") if one]
    unpaired.sort(key=lambda tile: (tile.he == "", list(Split).index(tile.split), tile.id))
    notes = [*data_set.notes, *([f"ignored {strange} {UNFIT}"] if strange else [])]
    return Discovery(
        layout=data_set.layout,
        sources=data_set.sources.absolute(),
        published=data_set.published,
        candidates=tuple(sorted(candidates, key=lambda candidate: candidate.rank)),
        unpaired=tuple(unpaired),
        notes=(*notes, *([missing] if missing else [])),
        read_as=read_as(data_set, _count_pairs(data_set, candidates)),
        hint="; ".join(hints),
        doubt="; ".join(_doubts(data_set, missing)),
    )


def name_tiles(tiles: SplitTiles, naming: Naming) -> Named:
    """The tiles of a split by their ids. Raises PairingError if two of a stain have one id."""
    if tiles.he == tiles.ihc and naming.he == naming.ihc:
        he = _by_key(tiles.he, naming.he, naming)
        return Named(he=he, ihc=he, strange=len(tiles.he) - len(he))
    he, ihc = _by_key(tiles.he, naming.he, naming), _by_key(tiles.ihc, naming.ihc, naming)
    seen = {tile.source for found in (he, ihc) for _, tile in found.values()}
    return Named(he=he, ihc=ihc, strange=len({tile.source for tile in (*tiles.he, *tiles.ihc)} - seen))


def _by_key(tiles: Sequence[Tile], template: str, naming: Naming) -> dict[str, tuple[str, Tile]]:
    """Tiles with their ids, by what is equal for the two of a pair."""
    found: dict[str, tuple[str, Tile]] = {}
    for tile in tiles:
        one = pair_id(tile.name, template)
        if one is None:
            continue
        key = naming.key(one)
        if other := found.get(key):
            raise PairingError(f"{other[1].source!r} and {tile.source!r} {_same(other[0], one)}; keep one of them")
        found[key] = one, tile
    return found


def _same(one: str, two: str) -> str:
    if one == two:
        return "have the same name without suffix"
    return "are one name, but for the form of Unicode or upper and lower case"


def _unpaired(tiles: SplitTiles, key: str, named: Named) -> Skipped:
    missing, folder = ("IHC", tiles.ihc_folder) if key in named.he else ("H&E", tiles.he_folder)
    one = (named.he.get(key) or named.ihc[key])[0]
    return Skipped(
        id=one,
        split=tiles.split,
        he=named.he[key][1].source if key in named.he else "",
        ihc=named.ihc[key][1].source if key in named.ihc else "",
        reason=f"no {missing} tile of that name in {folder}",
    )


def _hint(data_set: DataSet, naming: Naming, pairs: int) -> Hint | None:
    """The settings that would pair more names; folders and splits are kept apart by what stands before their names."""
    he = [f"{tiles.split}/{tile.name}" for tiles in data_set.splits for tile in tiles.he]
    ihc = [f"{tiles.split}/{tile.name}" for tiles in data_set.splits for tile in tiles.ihc]
    mixed = all(tiles.he == tiles.ihc for tiles in data_set.splits)
    return None if data_set.sources.joined else suggest(he, ihc, naming, pairs, mixed=mixed)


def _count_pairs(data_set: DataSet, candidates: Sequence[Candidate]) -> str:
    """The number of pairs of each split, for a person."""
    counts = [f"{sum(one.split is tiles.split for one in candidates)} {tiles.split}" for tiles in data_set.splits]
    return f"{' + '.join(counts) if data_set.published else len(candidates)} pairs"


def read_as(data_set: DataSet, amount: str) -> str:
    """The layout, the `amount` that was found, and the folders, for a person."""
    folders = data_set.folders
    named = " ".join(folders[:FOLDERS_NAMED]) + (" …" if len(folders) > FOLDERS_NAMED else "")
    title = "MIST" if data_set.layout is Layout.MIST else data_set.known.name if data_set.known else data_set.layout
    return f"{title}, {amount}, in {named}"


def _doubts(data_set: DataSet, missing: str) -> list[str]:
    """Why there may be no test set: it is in folders of splits that are not read, elsewhere, or not here yet."""
    splits = f"both folders hold folders of splits: to read these, give --data {data_set.around}"
    aside = [note for note in data_set.notes if note.startswith(ASIDE)]
    return [*([splits] if data_set.around else []), *([missing] if missing else []), *aside]


def _tell_missing(data_set: DataSet, candidates: Sequence[Candidate]) -> str:
    """How many pairs of a published set are here, if it is not the whole of it."""
    known = data_set.known
    here = [sum((one.split is Split.TRAIN) is train for one in candidates) for train in (True, False)]
    if known is None or here == [known.train, known.test]:
        return ""
    parts = f"; {tell_parts(data_set.parts)}" if data_set.parts else ""
    return f"{known.size}, here are {here[0]} + {here[1]}{parts}"
