"""A small store of unpaired tiles: the rarer stain is IHC in train and H&E in test; names that occur in both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prep.views import Geometry, cut_tile, plan_boxes
from store.format.layout import Unit, box_array, plan_arrays
from store.pairs.table import NO_DIGEST, Pair, Table
from store.reader import Store
from store.schema import Codec, Manifest, Split, Stain
from store.writing.writer import open_writer
from tests.support.stores import draw_tile, small_manifest

Names = Mapping[Split, Mapping[Stain, list[str]]]

NAMES: Names = {
    Split.TRAIN: {Stain.HE: [f"a{n}_0_0" for n in range(7)], Stain.IHC: [f"b{n}_0_0" for n in range(4)]},
    Split.VAL: {Stain.HE: ["c0_0_0", "c1_0_0"], Stain.IHC: ["c0_0_0", "c1_0_0"]},
    Split.TEST: {Stain.HE: ["d0_0_0", "d1_0_0"], Stain.IHC: [f"d{n}_0_0" for n in range(5)]},
}


def unpaired_manifest(names: Names = NAMES, *, unit: int = 3, codec: Codec = Codec.PORTABLE) -> Manifest:
    """The manifest of the store; its views are as large as what they are cut from, but for x1."""
    tiles = {split: {stain: len(of) for stain, of in stains.items()} for split, stains in names.items()}
    counts = {split: max(stains.values()) for split, stains in tiles.items()}
    manifest = replace(small_manifest(unit=unit), margin=0, recipe="native", codec=codec)
    return replace(manifest, paired=False, tiles=tiles, counts=counts)


def unpaired_table(names: Names = NAMES) -> Table:
    """The rows of the store."""
    return Table(pairs={split: _rows(stains[Stain.HE], stains[Stain.IHC]) for split, stains in names.items()})


def _rows(he: list[str], ihc: list[str]) -> tuple[Pair, ...]:
    return tuple(
        Pair(
            id=one or f"ihc/{two}",
            slide=one and one[:2],
            he=one and f"he/{one}.png",
            ihc=two and f"ihc/{two}.png",
            he_digest=sha256(f"he/{one}".encode()).hexdigest() if one else NO_DIGEST,
            ihc_digest=sha256(f"ihc/{two}".encode()).hexdigest() if two else NO_DIGEST,
            ihc_id=two,
            ihc_slide=two and two[:2],
        )
        for one, two in zip_longest(he, ihc, fillvalue="")
    )


def unpaired_blocks(manifest: Manifest, unit: Unit, names: Names = NAMES) -> dict[str, NDArray[Any]]:
    """What a unit of the store holds, by array path."""
    plans = {plan.path: plan for plan in plan_arrays(manifest, unit.split)}
    geometries = [
        Geometry(view=view, tile_side=manifest.tile_side, view_side=manifest.tile_side // 2, margin=0)
        for view in manifest.views
    ]
    blocks = {path: np.zeros((plan.held(unit), *plan.shape[1:]), plan.dtype) for path, plan in plans.items()}
    for stain in Stain:
        for place, row in enumerate(range(unit.first, min(unit.stop, manifest.tiles_of(unit.split, stain)))):
            tile = tile_of(manifest, unit.split, stain, row)
            blocks[f"{unit.split}/tile/{stain}"][place] = tile
            boxes = [plan_boxes(geometry, 0, names[unit.split][stain][row]) for geometry in geometries]
            for geometry, of_view, pictures in zip(geometries, boxes, cut_tile(geometries, tile, boxes), strict=True):
                view = geometry.view.name
                blocks[f"{unit.split}/{view}/{stain}"][place] = [_fitted(picture) for picture in pictures]
                rows = [(box.top, box.left, box.side) for box in of_view]
                blocks[box_array(manifest, unit.split, view, stain)][place] = rows
    return blocks


def tile_of(manifest: Manifest, split: Split, stain: Stain, row: int) -> NDArray[np.uint8]:
    """The tile of a stain in a row, u8 [S,S,3]."""
    return draw_tile(manifest.tile_side, list(Split).index(split), row, list(Stain).index(stain))


def build_unpaired_store(
    path: Path | str, names: Names = NAMES, *, unit: int = 3, codec: Codec = Codec.PORTABLE
) -> Store:
    """Build the store, or resume it, and seal it."""
    manifest = unpaired_manifest(names, unit=unit, codec=codec)
    with open_writer(path, manifest, unpaired_table(names)) as writer:
        for pending in writer.pending():
            writer.write(pending, unpaired_blocks(manifest, pending, names))
        writer.seal()
    return Store.open(path)


def _fitted(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A window at the view side."""
    factor = 64 // picture.shape[0]
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
