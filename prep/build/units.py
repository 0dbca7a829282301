"""One unit of work: read its pairs and cut the views, enlarge them, make the rows. A function of pairs and settings.

Nothing is shared between units: no batch and no random number crosses from one to another.
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
from prep.upscaling.upscale import Enlarges, UpscalerChoice, make_upscaler
from prep.views import Geometry, cut_tile, finish_views, plan_boxes
from store.format.layout import Unit
from store.format.shards import encode_unit
from store.images import PictureU8
from store.schema import Box, Manifest, Pair, Stain
from store.writing.writer import StoreWriter

Blocks = dict[str, NDArray[Any]]  # rows of a unit by array path


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all units of a build have in common; every process gets it."""

    manifest: Manifest
    sources: Sources
    geometries: tuple[Geometry, ...]
    upscaler: UpscalerChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The windows of one view of a unit, u8 [N,W,W,3] in the order (stain, pair, index), with their boxes and names."""

    geometry: Geometry
    pictures: PictureU8
    boxes: list[Box]
    names: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A unit that was read: the rows that are finished, and the windows of the views to enlarge."""

    unit: Unit
    blocks: Blocks
    windows: tuple[Windows, ...]


def read_unit(work: Work, unit: Unit, pairs: Sequence[Pair], pool: ThreadPoolExecutor) -> Loaded:
    """Read the pairs of a unit and cut all windows; PairingError if a source changed since it was checked."""
    tile_pairs = list(pool.map(partial(read_pair, work.sources), pairs))
    tiles = [pair[index] for index in range(len(Stain)) for pair in tile_pairs]  # all H&E, then all IHC
    boxes = [[plan_boxes(geometry, work.manifest.seed, pair.id) for geometry in work.geometries] for pair in pairs]
    cut = list(pool.map(partial(cut_tile, work.geometries), tiles, [*boxes, *boxes]))  # both stains at one place
    blocks = _stack_tiles(unit, tiles) if work.manifest.has_tiles(unit.split) else {}
    windows = []
    for number, geometry in enumerate(work.geometries):
        rows = [of_pair[number] for of_pair in boxes]
        blocks |= _stack_boxes(unit, geometry, rows)
        pictures = np.stack([picture for of_tile in cut for picture in of_tile[number]])
        if geometry.enlarged:
            flat = [box for row in [*rows, *rows] for box in row]
            names = _window_names(unit, pairs, geometry)
            windows.append(Windows(geometry=geometry, pictures=pictures, boxes=flat, names=names))
        else:
            blocks |= _stack_views(unit, geometry, pictures)
    return Loaded(unit=unit, blocks=blocks, windows=tuple(windows))


def enlarge_unit(loaded: Loaded, upscaler: Enlarges) -> Loaded:
    """The unit with enlarged windows: the only stage that needs the device."""
    enlarged = [
        replace(windows, pictures=upscaler.enlarge(windows.pictures, int(windows.geometry.factor), windows.names))
        for windows in loaded.windows
    ]
    return replace(loaded, windows=tuple(enlarged))


def write_unit(writer: StoreWriter, enlarged: Loaded, threads: int) -> None:
    """Finish the views of a unit, pack them and commit it."""
    writer.write(enlarged.unit, finish_unit(enlarged), threads=threads)


def finish_unit(enlarged: Loaded) -> Blocks:
    """The rows of a unit by array path: tiles u8 [n,T,T,3], views u8 [n,view,S,S,3], boxes i32 [n,view,3]."""
    blocks = dict(enlarged.blocks)
    for windows in enlarged.windows:
        views = finish_views(windows.pictures, windows.boxes, windows.geometry)
        blocks |= _stack_views(enlarged.unit, windows.geometry, views)
    for path, rows in blocks.items():
        assert len(rows) == len(enlarged.unit.pairs), path
    return blocks


def build_unit(work: Work, unit: Unit, pairs: Sequence[Pair], threads: int) -> dict[str, bytes]:
    """The shards of a unit by file name; nothing is written."""
    with ThreadPoolExecutor(threads) as pool:
        loaded = read_unit(work, unit, pairs, pool)
    blocks = finish_unit(enlarge_unit(loaded, make_upscaler(work.upscaler)))
    return encode_unit(work.manifest, unit, blocks, threads=threads)


def _window_names(unit: Unit, pairs: Sequence[Pair], geometry: Geometry) -> list[str]:
    """For errors: split, pair, stain and view of each window."""
    ids = [pair.id for pair in pairs for _ in range(geometry.view.count)]
    return [f"{unit.split} {pair_id!r} {stain} {geometry.view.name}" for stain in Stain for pair_id in ids]


def _stack_tiles(unit: Unit, tiles: Sequence[PictureU8]) -> Blocks:
    """The tiles of both stains as delivered, u8 [n,T,T,3] each."""
    half = len(tiles) // len(Stain)
    return {f"{unit.split}/tile/{s}": np.stack(tiles[n * half : (n + 1) * half]) for n, s in enumerate(Stain)}


def _stack_boxes(unit: Unit, geometry: Geometry, boxes: Sequence[Sequence[Box]]) -> Blocks:
    """The boxes of a view, i32 [n,view,3] as (top, left, side)."""
    rows = [[(box.top, box.left, box.side) for box in row] for row in boxes]
    return {f"{unit.split}/{geometry.view.name}/box": np.array(rows, np.int32)}


def _stack_views(unit: Unit, geometry: Geometry, views: PictureU8) -> Blocks:
    """The views u8 [2 x n x view,S,S,3] as those of each stain, u8 [n,view,S,S,3]."""
    rows = views.reshape(-1, geometry.view.count, *views.shape[1:])
    group = f"{unit.split}/{geometry.view.name}"
    return {f"{group}/{stain}": half for stain, half in zip(Stain, np.split(rows, len(Stain)), strict=True)}
