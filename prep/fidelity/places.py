"""Several upscalers on the same windows of the same tiles: each result is measured as the views of a store are.

Windows are cut as a build cuts them, and enlarged by one upscaler after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prep.fidelity.entrants import Entrant
from prep.fidelity.measures import Change, measure
from prep.tiles.checking import collect_pairs, inspect_pairs
from prep.tiles.inspected import Checked
from prep.tiles.pairs import Discovery
from prep.tiles.reading import read_pair
from prep.tiles.squares import Cutting
from prep.tiles.unpaired import tiles_of_row
from prep.upscaling.upscale import Lanczos
from prep.views import Geometry, cut_source, cut_window, finish_view, keyed_generator, plan_boxes
from store.cli import track
from store.images import PictureU8
from store.pairs.table import Pair
from store.schema import Box, Split, Stain

SHOWN = 2  # pictures of each view and stain on the sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A place of which every upscaler made a view: pair, stain, view, box, and what it is cut from.

    source: u8 [P,P,3]; lanczos: u8 [S,S,3]; tile: u8 [T,T,3], the same place in the tile as delivered.
    """

    split: Split
    pair: Pair
    stain: Stain
    geometry: Geometry
    box: Box
    source: PictureU8
    lanczos: PictureU8
    tile: PictureU8


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was measured at one place: the change by each upscaler that can make the view, and how far they differ.

    `apart` is the mean square of the distance of the views from their mean, grey levels².
    """

    split: Split
    pair: str
    slide: str
    stain: Stain
    view: str
    box: Box
    changes: Mapping[str, Change]
    apart: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A place where the upscalers differ most, with their views, u8 [S,S,3] by title."""

    patch: Patch
    views: Mapping[str, PictureU8]
    compared: Compared


def choose_pairs(discovery: Discovery, limit: int, seed: int, *, threads: int, cutting: Cutting) -> Checked:
    """At most `limit` pairs of the candidates, chosen by the seed, checked as a build checks them; 0 is all."""
    candidates = discovery.candidates
    if 0 < limit < len(candidates):
        drawn = keyed_generator(seed, "upscalers").choice(len(candidates), limit, replace=False)
        candidates = tuple(candidates[int(place)] for place in np.sort(drawn))
    chosen = replace(discovery, candidates=candidates, unpaired=())
    inspected = inspect_pairs(chosen, threads=threads, cutting=cutting)
    return collect_pairs(chosen, track(inspected, what="checking", unit="pair", total=len(candidates)), cutting)


def drawn_pairs(checked: Checked, limit: int, seed: int) -> list[tuple[Split, Pair]]:
    """At most `limit` of the pairs, in their order: one picture may have become many tiles."""
    rows = [(split, row) for split, pairs in checked.table.pairs.items() for row in pairs]
    pairs = [(split, tile) for split, row in rows for tile in tiles_of_row(row)]
    if 0 < limit < len(pairs):
        drawn = keyed_generator(seed, "squares").choice(len(pairs), limit, replace=False)
        pairs = [pairs[int(place)] for place in np.sort(drawn)]
    return pairs


def cut_patches(
    pairs: Sequence[tuple[Split, Pair]], discovery: Discovery, geometries: Sequence[Geometry], seed: int
) -> Iterator[list[tuple[Patch, PictureU8]]]:
    """For each pair its places, each with the window that an upscaler gets, u8 [W,W,3]."""
    for split, pair in pairs:
        tiles = dict(zip(Stain, read_pair(discovery.sources, pair), strict=True))
        yield [
            _cut(split, pair, stain, tiles[stain], geometry, box)
            for geometry in geometries
            for box in plan_boxes(geometry, seed, pair.id)
            for stain in pair.stains
        ]


def compare(patches: Sequence[tuple[Patch, PictureU8]], entrants: Sequence[Entrant]) -> Iterator[Shown]:
    """Enlarge and measure the places of one pair by every upscaler."""
    views: list[dict[str, PictureU8]] = [{} for _ in patches]
    for entrant in entrants:
        for factor in sorted(entrant.factors):
            places = [n for n, (patch, _) in enumerate(patches) if patch.geometry.factor == factor]
            if not places:
                continue
            windows = np.stack([patches[n][1] for n in places])
            names = [f"{patches[n][0].pair.id!r} {patches[n][0].stain}" for n in places]
            for n, window in zip(places, entrant.upscaler.enlarge(windows, factor, names), strict=True):
                patch = patches[n][0]
                views[n][entrant.title] = finish_view(window, patch.box, patch.geometry)
    for (patch, _), made in zip(patches, views, strict=True):
        yield Shown(patch=patch, views=made, compared=_measure(patch, made))


def keep_most_apart(kept: list[Shown], more: Iterator[Shown]) -> Iterator[Compared]:
    """Pass on what was measured, and keep in `kept` the places of each view and stain where views differ most."""
    for one in more:
        yield one.compared
        kept.append(one)
        same = [other for other in kept if _kind(other) == _kind(one)]
        if len(same) > SHOWN:
            kept.remove(min(same, key=lambda other: other.compared.apart))


def _kind(one: Shown) -> tuple[str, Stain]:
    return one.compared.view, one.compared.stain


def _cut(
    split: Split, pair: Pair, stain: Stain, tile: PictureU8, geometry: Geometry, box: Box
) -> tuple[Patch, PictureU8]:
    source = cut_source(tile, geometry)
    window = cut_window(source, box, geometry)
    lanczos = Lanczos().enlarge(window[None], int(geometry.factor))[0]
    patch = Patch(
        split=split,
        pair=pair,
        stain=stain,
        geometry=geometry,
        box=box,
        source=cut_window(source, box, replace(geometry, margin=0)),
        lanczos=finish_view(lanczos, box, geometry),
        tile=tile[box.top : box.top + box.side, box.left : box.left + box.side],
    )
    return patch, window


def _measure(patch: Patch, views: Mapping[str, PictureU8]) -> Compared:
    changes = {
        title: measure(view=view, patch=patch.source, lanczos=patch.lanczos, tile=patch.tile, stain=patch.stain)
        for title, view in views.items()
    }
    stacked = np.stack([*views.values()]).astype(np.float64)
    return Compared(
        split=patch.split,
        pair=patch.pair.id,
        slide=patch.pair.slide_of(patch.stain),
        stain=patch.stain,
        view=patch.geometry.view.name,
        box=patch.box,
        changes=changes,
        apart=float(stacked.var(0).mean()),
    )
