"""Judge what a store's upscaler did: every drawn picture, the numbers together, and the worst of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isnan
from types import MappingProxyType

from tqdm import tqdm

from prep.fidelity.measures import Change, measure, pool
from prep.fidelity.sources import Sample, Series, cut_again, draw_pictures
from store.reader import Store
from store.schema import Box, Split, Stain

RARE = 20  # one picture in so many is at least as bad as the tail that is reported


class Measure(StrEnum):
    """By what pictures are ranked, worst first."""

    PSNR = "psnr"
    COLOUR = "colour"
    DAB = "dab"
    DETAIL = "detail"


BADNESS: Mapping[Measure, Callable[[Change], float]] = MappingProxyType(
    {  # above 0 where there is something to show; NaN where it is not defined
        Measure.PSNR: lambda change: change.error,
        Measure.COLOUR: lambda change: change.colour_error,
        Measure.DAB: lambda change: abs(change.dab_share),
        Measure.DETAIL: lambda change: change.added,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One picture: the pair's row and id, which of the pair's pictures, its slide, its box, its numbers."""

    row: int
    pair: str
    index: int
    slide: str
    box: Box
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The judged pictures of one stain of a series, in the order of the store; `available` is how many there are."""

    series: Series
    stain: Stain
    available: int
    pictures: tuple[Judged, ...]

    def ranked(self, by: Measure) -> list[Judged]:
        """The pictures for which this measure is defined, worst first."""
        badness = BADNESS[by]
        ranked = [picture for picture in self.pictures if not isnan(badness(picture.change))]
        return sorted(ranked, key=lambda picture: badness(picture.change), reverse=True)

    def whole(self) -> Change:
        """All pictures together, each counting once."""
        return pool([picture.change for picture in self.pictures])

    def slides(self) -> dict[str, tuple[int, Change]]:
        """For each slide the number of its pictures and all of them together."""
        slides: dict[str, list[Change]] = {}
        for picture in self.pictures:
            slides.setdefault(picture.slide, []).append(picture.change)
        return {slide: (len(changes), pool(changes)) for slide, changes in sorted(slides.items())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """A picture that is the worst of its view and stain, over all splits, and by which measures."""

    group: Group
    picture: Judged
    measures: tuple[Measure, ...]


def tail(ranked: Sequence[Judged]) -> Judged:
    """The 5th percentile by nearest rank, of pictures ranked worst first: the worst itself up to 20 of them."""
    return ranked[(len(ranked) - 1) // RARE]


def find_worst(groups: Sequence[Group]) -> list[Worst]:
    """For every view and stain the worst picture by each measure; where nothing is wrong there is none."""
    found: list[Worst] = []
    for view, stain in dict.fromkeys((group.series.view, group.stain) for group in groups):
        ours = [group for group in groups if (group.series.view, group.stain) == (view, stain)]
        by_place: dict[tuple[Split, int, int], Worst] = {}
        for by, badness in BADNESS.items():
            firsts = [(group, order[0]) for group in ours if (order := group.ranked(by))]
            group, picture = max(firsts, key=lambda first: badness(first[1].change), default=(None, None))
            if group and picture and badness(picture.change) > 0:
                place = (group.series.split, picture.row, picture.index)
                before = by_place[place].measures if place in by_place else ()
                by_place[place] = Worst(group=group, picture=picture, measures=(*before, by))
        found += by_place.values()
    return found


def judge(store: Store, series: Sequence[Series], sample: Sample) -> list[Group]:
    """Every drawn picture of every series in both stains; memory holds one picture and everybody's numbers."""
    drawn = [draw_pictures(one, len(store.pairs(one.split)), sample) for one in series]
    groups: list[Group] = []
    with tqdm(total=2 * sum(map(len, drawn)), desc="judging", unit="picture", file=sys.stderr) as bar:
        for one, places in zip(series, drawn, strict=True):
            available = len(store.pairs(one.split)) * one.geometry.view.count
            for stain in Stain:
                pictures: list[Judged] = []
                for row, index in places:
                    pictures.append(_judge_picture(store, one, stain, row, index))
                    bar.update()
                groups.append(Group(series=one, stain=stain, available=available, pictures=tuple(pictures)))
    return groups


def _judge_picture(store: Store, series: Series, stain: Stain, row: int, index: int) -> Judged:
    pair, pictures = store.pairs(series.split)[row], cut_again(store, series, stain, row, index)
    change = measure(
        view=pictures.view, patch=pictures.patch, lanczos=pictures.lanczos, tile=pictures.tile, stain=stain
    )
    box = store.box(series.split, series.view, row, index)
    return Judged(row=row, pair=pair.id, index=index, slide=pair.slide, box=box, change=change)
