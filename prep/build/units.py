"""One unit of work: read its pairs and cut the views, enlarge them, hand the rows on. A function of pairs and settings.

Nothing crosses into a unit from another one: not a batch, not a random number.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prep.tiles.checking import read_pair
from prep.tiles.layouts import Sources
from prep.upscaling.upscale import Enlarges
from prep.views import Geometry, cut_source, cut_window, finish_view, plan_boxes
from store.format.layout import Unit
from store.images import PictureU8
from store.schema import Box, Manifest, Pair, Stain


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all units of a build have in common."""

    manifest: Manifest
    sources: Sources
    geometries: tuple[Geometry, ...]

    @property
    def factors(self) -> frozenset[int]:
        """By how much views are enlarged: a network for each."""
        return frozenset(int(geometry.factor) for geometry in self.geometries if geometry.enlarged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The windows of one view of a unit, u8 [N,W,W,3] in the order (stain, pair, index), with their boxes and names."""

    geometry: Geometry
    pictures: PictureU8
    boxes: list[list[Box]]
    names: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A unit that was read: the rows that are finished by array path, and the windows of the views to enlarge."""

    unit: Unit
    blocks: dict[str, NDArray[Any]]
    windows: tuple[Windows, ...]


def read_unit(work: Work, unit: Unit, pairs: Sequence[Pair], pool: ThreadPoolExecutor) -> Loaded:
    """Read the pairs of a unit and cut all windows; PairingError if a source changed since it was checked."""
    pictures = list(pool.map(lambda pair: read_pair(work.sources, pair), pairs))
    tiles = {Stain.HE: [he for he, _ in pictures], Stain.IHC: [ihc for _, ihc in pictures]}
    blocks: dict[str, NDArray[Any]] = {}
    if work.manifest.has_tiles(unit.split):
        blocks |= {f"{unit.split}/tile/{stain}": np.stack(tiles[stain]) for stain in Stain}
    windows, sources = [], _cut_sources(work, tiles, pool)
    for geometry in work.geometries:
        boxes = [plan_boxes(geometry, work.manifest.seed, pair.id) for pair in pairs]
        blocks[f"{unit.split}/{geometry.view.name}/box"] = np.array(
            [[(b.top, b.left, b.side) for b in row] for row in boxes], np.int32
        )
        cut = Windows(
            geometry=geometry,
            pictures=_cut_windows(sources[geometry.source_side], boxes, geometry),
            boxes=boxes,
            names=[f"{unit.split} {pair.id!r} {stain} {geometry.view.name}" for stain in Stain for pair in pairs
                   for _ in range(geometry.view.count)],
        )  # fmt: skip
        if geometry.enlarged:
            windows.append(cut)
        else:
            blocks |= _finish(unit, cut)
    return Loaded(unit=unit, blocks=blocks, windows=tuple(windows))


def enlarge_unit(loaded: Loaded, upscaler: Enlarges) -> Loaded:
    """The unit with enlarged windows: all that the device is needed for."""
    enlarged = [
        replace(windows, pictures=upscaler.enlarge(windows.pictures, int(windows.geometry.factor), windows.names))
        for windows in loaded.windows
    ]
    return replace(loaded, windows=tuple(enlarged))


def finish_unit(enlarged: Loaded) -> dict[str, NDArray[Any]]:
    """The rows of a unit by array path: tiles u8 [n,T,T,3], views u8 [n,view,S,S,3], boxes i32 [n,view,3]."""
    blocks = dict(enlarged.blocks)
    for windows in enlarged.windows:
        blocks |= _finish(enlarged.unit, windows)
    for path, rows in blocks.items():  # [2n,…] above, one row a pair here
        assert len(rows) == len(enlarged.unit.pairs), path
    return blocks


def _cut_sources(
    work: Work, tiles: dict[Stain, list[PictureU8]], pool: ThreadPoolExecutor
) -> dict[int, dict[Stain, list[PictureU8]]]:
    """What windows are cut from, by its side: the tile, or the field, which is made once for all views."""
    distinct = {geometry.source_side: geometry for geometry in work.geometries}
    return {
        side: {stain: list(pool.map(partial(cut_source, geometry=geometry), tiles[stain])) for stain in Stain}
        for side, geometry in distinct.items()
    }


def _cut_windows(sources: dict[Stain, list[PictureU8]], boxes: list[list[Box]], geometry: Geometry) -> PictureU8:
    """The windows of one view at the same boxes in both stains, u8 [N,W,W,3]."""
    return np.stack(
        [
            cut_window(source, box, geometry)
            for stain in Stain
            for source, row in zip(sources[stain], boxes, strict=True)
            for box in row
        ]
    )


def _finish(unit: Unit, windows: Windows) -> dict[str, NDArray[Any]]:
    """The views of both stains by array path, u8 [n,view,S,S,3]: enlarged windows without their margin."""
    geometry = windows.geometry
    boxes = [box for _ in Stain for row in windows.boxes for box in row]
    views = np.stack([finish_view(window, box, geometry) for window, box in zip(windows.pictures, boxes, strict=True)])
    rows = views.reshape(len(Stain) * len(windows.boxes), geometry.view.count, *views.shape[1:])
    group = f"{unit.split}/{geometry.view.name}"
    return {f"{group}/{stain}": half for stain, half in zip(Stain, np.split(rows, len(Stain)), strict=True)}
