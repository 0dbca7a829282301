"""Measure the enlarged pictures of a store: each chosen picture, the numbers together, and the worst pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from math import isnan
from types import MappingProxyType

from prep.fidelity.measures import Change, measure, pool
from prep.fidelity.sources import Sample, Series, cut_again, draw_pictures
from store.cli import progress
from store.reader import Store
from store.schema import Box, Split, Stain

RARE = 20  # one picture in so many is at least as bad as the tail that is reported


class Measure(StrEnum):
    """The measures that pictures are ranked by, worst first."""

    PSNR = "psnr"
    COLOUR = "colour"
    DAB = "dab"
    DETAIL = "detail"


BADNESS: Mapping[Measure, Callable[[Change], float]] = MappingProxyType(
    {  # above 0 if there is something to show, NaN if it is not defined
        Measure.PSNR: lambda change: change.error,
        Measure.COLOUR: lambda change: change.colour_error,
        Measure.DAB: lambda change: abs(change.dab_share),
        Measure.DETAIL: lambda change: change.added,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPicture:
    """One picture: row and id of its pair, its index among the pair's pictures, its slide, its box, its numbers."""

    row: int
    pair: str
    index: int
    slide: str
    box: Box
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The measured pictures of one stain of a series, in the order of the store; `available` counts all there are."""

    series: Series
    stain: Stain
    available: int
    pictures: tuple[MeasuredPicture, ...]

    def ranked(self, by: Measure) -> list[MeasuredPicture]:
        """The pictures for which this measure is defined, worst first."""
        badness = BADNESS[by]
        ranked = [picture for picture in self.pictures if not isnan(badness(picture.change))]
        return sorted(ranked, key=lambda picture: badness(picture.change), reverse=True)

    def pooled(self) -> Change:
        """All pictures together, each counting once."""
        return pool([picture.change for picture in self.pictures])

    def slides(self) -> dict[str, tuple[int, Change]]:
        """For each slide the number of its pictures, and these together."""
        slides: dict[str, list[Change]] = {}
        for picture in self.pictures:
            slides.setdefault(picture.slide, []).append(picture.change)
        return {slide: (len(changes), pool(changes)) for slide, changes in sorted(slides.items())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """A picture that is the worst of its view and stain over all splits, and the measures by which it is."""

    group: Group
    picture: MeasuredPicture
    measures: tuple[Measure, ...]


def tail(ranked: Sequence[MeasuredPicture]) -> MeasuredPicture:
    """The 5th percentile by nearest rank, of pictures ranked worst first; up to 20 pictures it is the worst one."""
    return ranked[(len(ranked) - 1) // RARE]


def find_worst(groups: Sequence[Group]) -> list[Worst]:
    """For every view and stain the worst picture by each measure, if it has any error by that measure."""
    found: list[Worst] = []
    for view, stain in dict.fromkeys((group.series.view, group.stain) for group in groups):
        same = [group for group in groups if (group.series.view, group.stain) == (view, stain)]
        by_place: dict[tuple[Split, int, int], Worst] = {}
        for by, badness in BADNESS.items():
            firsts = [(group, order[0]) for group in same if (order := group.ranked(by))]
            group, picture = max(firsts, key=lambda first: badness(first[1].change), default=(None, None))
            if group and picture and badness(picture.change) > 0:
                place = (group.series.split, picture.row, picture.index)
                before = by_place[place].measures if place in by_place else ()
                by_place[place] = Worst(group=group, picture=picture, measures=(*before, by))
        found += by_place.values()
    return found


def measure_pictures(store: Store, series: Sequence[Series], sample: Sample) -> list[Group]:
    """Measure the chosen pictures of every series in both stains, one picture in memory at a time."""
    chosen = [(one, stain) for one, stain in product(series, Stain) if store.rows(one.split, stain)]
    drawn = [draw_pictures(one, len(store.rows(one.split, stain)), sample) for one, stain in chosen]
    groups: list[Group] = []
    with progress(total=sum(map(len, drawn)), what="measuring", unit="picture") as bar:
        for (one, stain), places in zip(chosen, drawn, strict=True):
            available = len(store.rows(one.split, stain)) * one.geometry.view.count
            pictures: list[MeasuredPicture] = []
            for row, index in places:
                pictures.append(_measure_picture(store, one, stain, row, index))
                bar.update()
            groups.append(Group(series=one, stain=stain, available=available, pictures=tuple(pictures)))
    return groups


def _measure_picture(store: Store, series: Series, stain: Stain, row: int, index: int) -> MeasuredPicture:
    pair, pictures = store.pairs(series.split)[row], cut_again(store, series, stain, row, index)
    change = measure(
        view=pictures.view, patch=pictures.patch, lanczos=pictures.lanczos, tile=pictures.tile, stain=stain
    )
    box, slide = store.box(series.split, series.view, row, index, stain), pair.slide_of(stain)
    return MeasuredPicture(row=row, pair=pair.id_of(stain), index=index, slide=slide, box=box, change=change)
