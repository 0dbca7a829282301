"""The facts of all pictures of a store, gathered for its data card; the same whatever the order of reading was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from prep.facts.copies import find_copies
from prep.facts.picture import SUBSTANCES, TileFacts, measure_tile
from store.card.measured import (
    DENSITY_STEP,
    DENSITY_STEPS,
    GLASS_SHARE,
    NAMED,
    RULES,
    Colour,
    Copy,
    Density,
    Glass,
    Measured,
    Named,
    Scale,
    TermsFile,
)
from store.images import Picture, PictureU8
from store.pairs.table import Pair
from store.pictures.claims import Claims
from store.schema import Split, Stain

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """A source picture: its name, its size in px, what its file claims."""

    name: str
    width: int
    height: int
    claims: Claims


@dataclass(frozen=True, slots=True, kw_only=True)
class StainFacts:
    """One tile of this id and the source that it was cut from; `one_colour` to the last bit."""

    id: str
    source: SourceFacts
    tile: TileFacts
    one_colour: bool


PairFacts = Mapping[Stain, StainFacts]
Rows = Mapping[Split, Sequence[PairFacts]]


def measure_stain(stain: Stain, pair: Pair, file: Picture, tile_u8: PictureU8, *, one_colour: bool) -> StainFacts:
    """The facts of a tile of a pair, u8 [S,S,3], that was cut from the picture in this file."""
    height, width = file.pixels.shape[:2]
    source = SourceFacts(name=pair.tile_of(stain), width=width, height=height, claims=file.claims)
    return StainFacts(id=pair.id_of(stain), source=source, tile=measure_tile(tile_u8, stain), one_colour=one_colour)


def gather(rows: Rows, *, read_as: str, set_aside: tuple[str, ...], terms: tuple[TermsFile, ...]) -> Measured:
    """What is kept of the facts of all pairs of each split; a pair may lack a stain. The words are of the folder."""
    ordered = {split: sorted(rows[split], key=_ids) for split in Split if rows.get(split)}
    copies = [copy for stain in Stain for copy in find_copies(_hashes(ordered, stain), stain)]
    sources = {stain: _sources(ordered, stain) for stain in Stain}
    return Measured(
        rules=RULES,
        sources={stain: _counted(f"{s.width} x {s.height}" for s in found) for stain, found in sources.items()},
        scales=tuple(scale for stain, found in sources.items() for scale in _scales(stain, found)),
        glass=_by_split_and_stain(ordered, _glass),
        densities=_by_split_and_stain(ordered, _densities),
        copies=_count(copies),
        copies_named=tuple(copies[:NAMED]),
        colours=_colours([(split, pair) for split, pairs in ordered.items() for pair in pairs]),
        read_as=read_as,
        set_aside=set_aside,
        terms=terms,
    )


def _hashes(rows: Rows, stain: Stain) -> dict[Split, list[tuple[str, int]]]:
    return {
        split: [(of.id, of.tile.hash) for pair in pairs if (of := pair.get(stain)) and not of.tile.plain]
        for split, pairs in rows.items()
    }


def _sources(rows: Rows, stain: Stain) -> list[SourceFacts]:
    """The source pictures of a stain, each once, by name."""
    held = {of.source.name: of.source for pairs in rows.values() for p in pairs if (of := p.get(stain))}
    return [held[name] for name in sorted(held)]


def _scales(stain: Stain, sources: Sequence[SourceFacts]) -> list[Scale]:
    counts = Counter((source.claims.mpp, source.claims.mpp_from) for source in sources)
    return [Scale(stain=stain, mpp=mpp, where=where, pictures=n) for (mpp, where), n in sorted(counts.items())]


def _glass(tiles: Sequence[StainFacts], stain: Stain) -> Glass:
    one_colour = [of.id for of in tiles if of.one_colour]
    nearly = [of.id for of in tiles if of.tile.glass >= GLASS_SHARE and not of.one_colour]
    return Glass(one_colour=_named(one_colour), nearly=_named(nearly))


def _densities(tiles: Sequence[StainFacts], stain: Stain) -> dict[str, Density]:
    """By substance the mean of all tiles, and how many tiles are in which step of density."""
    found = {}
    for place, substance in enumerate(SUBSTANCES[stain]):
        values = [of.tile.densities[place] for of in tiles]
        steps = Counter(min(int(value / DENSITY_STEP), DENSITY_STEPS - 1) for value in values)
        counts = tuple(steps[step] for step in range(DENSITY_STEPS))
        found[substance.name.lower()] = Density(mean=round(sum(values) / len(values), 4), tiles=counts)
    return found


def _colours(pairs: Sequence[tuple[Split, PairFacts]]) -> tuple[Colour, ...]:
    """What the two pictures of pairs claim, the most frequent first; where both claim nothing, nothing is said."""
    found: dict[tuple[str, str, bool], list[str]] = {}
    for split, pair in pairs:
        he, ihc = (pair[stain].source.claims if stain in pair else Claims() for stain in Stain)
        if he.colour or ihc.colour:
            differ = len(pair) == len(Stain) and he.colour != ihc.colour and not (he.is_usual and ihc.is_usual)
            found.setdefault((he.colour, ihc.colour, differ), []).append(f"{split} {_ids(pair)[0]}")
    return tuple(
        Colour(he=he, ihc=ihc, differ=differ, pairs=_named(names))
        for (he, ihc, differ), names in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    )


def _ids(pair: PairFacts) -> tuple[str, ...]:
    return tuple(pair[stain].id for stain in Stain if stain in pair)


def _by_split_and_stain(rows: Rows, measure: Callable[[Sequence[StainFacts], Stain], T]) -> dict[Split, dict[Stain, T]]:
    """A measure of the tiles of each stain in each split that has some."""
    return {
        split: {
            stain: measure(tiles, stain)
            for stain in Stain
            if (tiles := [of for pair in pairs if (of := pair.get(stain))])
        }
        for split, pairs in rows.items()
    }


def _count(copies: Sequence[Copy]) -> dict[Split, dict[Stain, int]]:
    counts = Counter((copy.split, copy.stain) for copy in copies)
    splits = [split for split in Split if any(split is of for of, _ in counts)]
    return {split: {stain: counts[split, stain] for stain in Stain if (split, stain) in counts} for split in splits}


def _named(names: Sequence[str]) -> Named:
    return Named(count=len(names), names=tuple(names[:NAMED]))


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items(), key=lambda item: (-item[1], item[0])))
