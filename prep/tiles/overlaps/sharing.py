"""Which tiles share pixels: rectangles of one picture that overlap.

A picture with 100,000 tiles takes seconds: rectangles are sorted along one side, and each is compared with its band.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prep.tiles.overlaps.places import Place
from store.schema import Split

Rectangles = NDArray[np.float64]  # [N,4]: top, left, bottom, right


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A tile with its split and slide, and its place if it is known."""

    name: str
    split: Split
    slide: str
    place: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """A tile of a held-out split that shares pixels with a tile of a split before it."""

    split: Split
    name: str
    other: Split
    original: str


class Bands:
    """Rectangles that are sorted along the side on which they differ most, so that few can overlap with one of them."""

    def __init__(self, rectangles: Rectangles) -> None:
        top, left, bottom, right = rectangles.T
        if len(np.unique(left)) > len(np.unique(top)):
            top, left, bottom, right = left, top, right, bottom
        self.order = np.argsort(top, kind="stable")
        self._top, self._left, self._bottom, self._right = (side[self.order] for side in (top, left, bottom, right))
        self._longest = float((self._bottom - self._top).max(initial=0.0))

    def overlapping(self, place: int) -> tuple[slice, NDArray[np.bool_]]:
        """The band around the rectangle at a place of the order, and which of it overlap with that one."""
        top, bottom = self._top[place], self._bottom[place]
        band = slice(
            int(np.searchsorted(self._top, top - self._longest, "right")),
            int(np.searchsorted(self._top, bottom, "left")),
        )
        hit = (self._bottom[band] > top) & (self._left[band] < self._right[place])
        return band, hit & (self._right[band] > self._left[place])


def join_slides(tiles: Sequence[Placed]) -> dict[str, str]:
    """Slides whose tiles share pixels, each with the name of its group: the first of its slides by name."""
    groups: dict[str, str] = {}
    for rows in _by_picture(tiles, lambda tile: tile.slide):
        for component in _components(Bands(_rectangles(rows))):
            _unite(groups, {rows[row][0].slide for row in component})
    joined = {slide: _root(groups, slide) for slide in groups}
    shared = Counter(joined.values())
    return {slide: group for slide, group in joined.items() if shared[group] > 1}


def find_overlaps(tiles: Sequence[Placed]) -> list[Overlap]:
    """Every tile of val and test that shares pixels with a tile of a split before it, train first."""
    rank = {split: number for number, split in enumerate(Split)}
    found = []
    for rows in _by_picture(tiles, lambda tile: tile.split):
        bands = Bands(_rectangles(rows))
        ranks = np.array([rank[rows[row][0].split] for row in bands.order])
        for place in np.flatnonzero(ranks > ranks.min()):
            band, hit = bands.overlapping(int(place))
            earlier = np.flatnonzero(hit & (ranks[band] < ranks[place]))
            if len(earlier):
                first = earlier[ranks[band][earlier].argmin()] + band.start
                one, other = rows[bands.order[place]][0], rows[bands.order[first]][0]
                found.append(Overlap(split=one.split, name=one.name, other=other.split, original=other.name))
    return sorted(found, key=lambda overlap: (rank[overlap.split], overlap.name))


def count_overlaps(overlaps: Iterable[Overlap]) -> dict[Split, int]:
    """How many tiles of each split share pixels with those of a split before it, as a manifest records it."""
    found = [overlap.split for overlap in overlaps]
    return {split: found.count(split) for split in Split if split in found}


def describe_overlaps(overlaps: Sequence[Overlap], totals: Mapping[Split, int]) -> list[str]:
    """A sentence for each held-out split, with an example."""
    sentences = []
    for split, count in count_overlaps(overlaps).items():
        of_split = [overlap for overlap in overlaps if overlap.split is split]
        others = " and ".join(dict.fromkeys(overlap.other for overlap in of_split))
        sentences.append(
            f"{count} of {totals[split]} tiles of {split} share pixels with tiles of {others} (leakage), by the "
            f"coordinates in their names, for example {of_split[0].name!r} with {of_split[0].original!r}"
        )
    return sentences


def _by_picture(tiles: Sequence[Placed], of: Callable[[Placed], str]) -> list[list[tuple[Placed, Place]]]:
    """The tiles of each picture of which not all have the same slide, or split; the others cannot matter."""
    pictures: dict[str, list[tuple[Placed, Place]]] = {}
    for tile in tiles:
        if tile.place:
            pictures.setdefault(tile.place.picture, []).append((tile, tile.place))
    return [rows for rows in pictures.values() if len({of(tile) for tile, _ in rows}) > 1]


def _rectangles(rows: Sequence[tuple[Placed, Place]]) -> Rectangles:
    return np.array([(place.top, place.left, place.bottom, place.right) for _, place in rows], np.float64)


def _components(bands: Bands) -> Iterator[list[int]]:
    """The rows of rectangles that are connected through shared pixels; each rectangle is looked at once."""
    left = np.ones(len(bands.order), bool)
    for start in range(len(left)):
        if not left[start]:
            continue
        left[start], found, waiting = False, [start], [start]
        while waiting:
            band, hit = bands.overlapping(waiting.pop())
            more = np.flatnonzero(hit & left[band]) + band.start
            left[more] = False
            found += more.tolist()
            waiting += more.tolist()
        yield bands.order[found].tolist()


def _root(groups: Mapping[str, str], slide: str) -> str:
    while groups.get(slide, slide) != slide:
        slide = groups[slide]
    return slide


def _unite(groups: dict[str, str], slides: Iterable[str]) -> None:
    """Give slides one root: the first of their roots by name."""
    roots = {_root(groups, slide) for slide in slides}
    groups |= dict.fromkeys(roots, min(roots))
