"""One unit of work: read its pairs and cut the views, enlarge them, pack them. A function of pairs and settings.

Nothing is shared between units: no batch and no random number crosses from one to another. A picture is packed as soon
as it is finished, by the thread that made it: a unit holds packed pictures and windows, not tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from prep.tiles.decoded import Decoded, expecting
from prep.tiles.layouts import Sources
from prep.tiles.reading import read_pair
from prep.tiles.unpaired import tiles_of_row
from prep.upscaling.upscale import Enlarges, UpscalerChoice, make_upscaler
from prep.views import Geometry, cut_tile, finish_view, plan_boxes
from store.format.codec import Parts, encode_numbers, encode_parts
from store.format.layout import ArrayPlan, Unit, box_array, plan_arrays
from store.format.shards import make_shards
from store.images import PictureU8
from store.pairs.table import Pair
from store.schema import Box, Codec, Manifest, Split, Stain

Chunks = dict[str, list[Parts]]  # packed rows of a unit by array path


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all units of a build have in common; every process gets it."""

    manifest: Manifest
    sources: Sources
    geometries: tuple[Geometry, ...]
    upscaler: UpscalerChoice

    @property
    def enlarged(self) -> tuple[Geometry, ...]:
        """The views that an upscaler makes."""
        return tuple(geometry for geometry in self.geometries if geometry.enlarged)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPair:
    """A pair, or a tile alone, that was read and cut: its boxes by view name, and what is finished, packed.

    windows: those of each view and stain, u8 [W,W,3].
    """

    pair: Pair
    chunks: Chunks
    boxes: dict[str, list[Box]]
    windows: dict[tuple[str, Stain], list[PictureU8]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The windows of one view of a unit, u8 [N,W,W,3] in the order (stain, pair, index), with their boxes and names.

    The first `he` of them are of H&E.
    """

    geometry: Geometry
    pictures: PictureU8
    boxes: list[Box]
    names: list[str]
    he: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A unit that was read: what is finished, packed, and the windows of the views to enlarge."""

    unit: Unit
    chunks: Chunks
    windows: tuple[Windows, ...]


def read_unit(work: Work, unit: Unit, pairs: Sequence[Pair], pool: ThreadPoolExecutor, decoded: Decoded) -> Loaded:
    """Read the pairs of a unit, pack what is finished, cut the windows of the views to enlarge.

    Raises PairingError if a source changed since it was checked.
    """
    tiles = [tile for pair in pairs for tile in tiles_of_row(pair)]
    cut = list(pool.map(partial(_cut_pair, work, unit.split, decoded), tiles))
    chunks: Chunks = {}
    for plan in plan_arrays(work.manifest, unit.split):
        chunks[plan.path] = [chunk for one in cut for chunk in one.chunks.get(plan.path, ())]
        if not plan.pictures:
            chunks[plan.path] = [(encode_numbers(_box_rows(work.manifest, unit.split, plan, cut), plan),)]
    windows = tuple(_gather_windows(unit, cut, geometry) for geometry in work.enlarged)
    return Loaded(unit=unit, chunks=chunks, windows=windows)


def enlarge_unit(loaded: Loaded, upscaler: Enlarges) -> Loaded:
    """The unit with enlarged windows: the only stage that needs the device."""
    enlarged = [
        replace(windows, pictures=upscaler.enlarge(windows.pictures, int(windows.geometry.factor), windows.names))
        for windows in loaded.windows
    ]
    return replace(loaded, windows=tuple(enlarged))


def pack_unit(work: Work, enlarged: Loaded, pool: ThreadPoolExecutor) -> dict[str, Parts]:
    """The shards of an enlarged unit by file name."""
    chunks = dict(enlarged.chunks)
    for windows in enlarged.windows:
        pack = partial(_pack_view, windows, work.manifest.codec)
        packed = list(pool.map(pack, range(len(windows.pictures))))
        group = f"{enlarged.unit.split}/{windows.geometry.view.name}"
        chunks |= {f"{group}/{Stain.HE}": packed[: windows.he], f"{group}/{Stain.IHC}": packed[windows.he :]}
    return make_shards(work.manifest, enlarged.unit, chunks)


def build_unit(work: Work, unit: Unit, pairs: Sequence[Pair], threads: int) -> dict[str, bytes]:
    """The shards of a unit by file name; nothing is written."""
    upscaler = make_upscaler(work.upscaler)
    with ThreadPoolExecutor(threads) as pool:
        loaded = read_unit(work, unit, pairs, pool, expecting(pairs))
        shards = pack_unit(work, enlarge_unit(loaded, upscaler), pool)
    return {name: b"".join(parts) for name, parts in shards.items()}


def _cut_pair(work: Work, split: Split, decoded: Decoded, pair: Pair) -> CutPair:
    """Read a pair, cut its views and pack those that need no upscaler; PairingError if a source changed."""
    boxes = {g.view.name: plan_boxes(g, work.manifest.seed, pair.id) for g in work.geometries}
    chunks: Chunks = {}
    windows: dict[tuple[str, Stain], list[PictureU8]] = {}
    tiles = dict(zip(Stain, read_pair(work.sources, pair, decoded), strict=True))
    for stain in pair.stains:
        tile = tiles[stain]
        if work.manifest.has_tiles(split):
            chunks[f"{split}/tile/{stain}"] = [encode_parts(tile, work.manifest.codec)]
        cut = cut_tile(work.geometries, tile, list(boxes.values()))
        for geometry, pictures in zip(work.geometries, cut, strict=True):
            if geometry.enlarged:
                windows[geometry.view.name, stain] = [one.copy() for one in pictures]  # else the tile stays with them
            else:
                packed = [encode_parts(picture, work.manifest.codec) for picture in pictures]
                chunks[f"{split}/{geometry.view.name}/{stain}"] = packed
    return CutPair(pair=pair, chunks=chunks, boxes=boxes, windows=windows)


def _box_rows(manifest: Manifest, split: Split, plan: ArrayPlan, cut: Sequence[CutPair]) -> NDArray[np.int32]:
    """The rows of an array of boxes, i32 [row, index, (top, left, side)]: of pairs, or of the tiles of a stain."""
    _, view, _ = plan.path.split("/")
    stains = [stain for stain in Stain if box_array(manifest, split, view, stain) == plan.path]
    of_stain = [one.boxes[view] for one in cut if any(stain in one.pair.stains for stain in stains)]
    rows = [[(box.top, box.left, box.side) for box in boxes] for boxes in of_stain]
    return np.array(rows, np.int32).reshape(-1, *plan.shape[1:])


def _gather_windows(unit: Unit, cut: Sequence[CutPair], geometry: Geometry) -> Windows:
    """The windows of one view, all H&E before all IHC, under names for errors: split, pair, stain and view."""
    view = geometry.view.name
    ordered = [(stain, one) for stain in Stain for one in cut if stain in one.pair.stains]
    return Windows(
        geometry=geometry,
        pictures=np.stack([window for stain, one in ordered for window in one.windows[view, stain]]),
        boxes=[box for _, one in ordered for box in one.boxes[view]],
        names=[f"{unit.split} {one.pair.id!r} {stain} {view}" for stain, one in ordered for _ in one.boxes[view]],
        he=sum(len(one.boxes[view]) for stain, one in ordered if stain is Stain.HE),
    )


def _pack_view(windows: Windows, codec: Codec, place: int) -> Parts:
    """One enlarged view without its margin, packed."""
    return encode_parts(finish_view(windows.pictures[place], windows.boxes[place], windows.geometry), codec)
