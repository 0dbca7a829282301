"""Small stores, drawn with numpy."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.settings import Recipe
from prep.upscaling.upscale import Lanczos
from prep.views import Geometry, cut_source, cut_window, finish_view, plan_boxes, plan_views
from store.format.layout import Unit
from store.pairs.table import Pair, Table
from store.reader import Store
from store.schema import Box, Manifest, Split, Stain, Upscaler
from store.writing.writer import open_writer

Ids = Mapping[Split, list[str]]

IDS: Ids = {Split.TRAIN: [f"s{s}_{t}_0" for s in (1, 2) for t in range(4)], Split.TEST: [f"s3_{t}_0" for t in range(4)]}


def draw_tile(side: int, *key: int) -> NDArray[np.uint8]:
    """Smooth coloured blobs with fine grain, u8 [side,side,3]; a function of the key."""
    generator = np.random.default_rng(key)
    coarse = generator.integers(40, 230, (6, 6, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    noisy = np.asarray(smooth + generator.normal(0, 6, smooth.shape))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def small_manifest(
    *, tile_side: int = 128, view_side: int = 64, boxes: int = 1, unit: int = 3, ids: Ids = IDS
) -> Manifest:
    """The manifest of the small store: 3 slides x 4 tiles, two slides in train, one in test; enlarged by Lanczos."""
    return Manifest(
        format=1,
        name="small",
        stain="test",
        synthetic=True,
        tile_side=tile_side,
        view_side=view_side,
        recipe=Recipe.PAPER,
        views=plan_views(Recipe.PAPER, boxes),
        keep_tiles=True,
        margin=4,
        mpp={},
        upscaler=Upscaler(name="lanczos", digests={}, precision="u8", batch=4),
        unit=unit,
        counts={split: len(names) for split, names in ids.items()},
        skipped=0,
        split="published",
        seed=0,
        settings={"seed": 0},
        software={"test": "1"},
    )


def small_table(ids: Ids = IDS) -> Table:
    """The pair tables of the small store."""
    return Table(
        pairs={
            split: tuple(
                Pair(
                    id=i,
                    slide=i[:2],
                    he=f"he/{i}.png",
                    ihc=f"ihc/{i}.png",
                    he_digest=sha256(f"he/{i}".encode()).hexdigest(),
                    ihc_digest=sha256(f"ihc/{i}".encode()).hexdigest(),
                )
                for i in names
            )
            for split, names in ids.items()
        }
    )


def small_blocks(manifest: Manifest, unit: Unit, ids: Ids = IDS) -> dict[str, NDArray[Any]]:
    """The rows of one unit of the small store by array path; a function of its arguments."""
    blocks: dict[str, NDArray[Any]] = {}
    side, view_side, margin = manifest.tile_side, manifest.view_side, manifest.margin
    for stain_index, stain in enumerate(Stain):
        tiles = [draw_tile(side, unit.split is Split.TEST, row, stain_index) for row in unit.pairs]
        blocks[f"{unit.split}/tile/{stain}"] = np.stack(tiles)
        for view in manifest.views:
            geometry = Geometry(view=view, tile_side=side, view_side=view_side, margin=margin)
            boxes_of = [plan_boxes(geometry, 0, ids[unit.split][row]) for row in unit.pairs]
            name = f"{unit.split}/{view.name}"
            blocks[f"{name}/{stain}"] = np.stack(
                [[_cut(t, b, geometry) for b in bs] for t, bs in zip(tiles, boxes_of, strict=True)]
            )
            blocks[f"{name}/box"] = np.array([[(b.top, b.left, b.side) for b in bs] for bs in boxes_of], np.int32)
    return blocks


def build_small_store(
    path: Path | str, *, tile_side: int = 128, view_side: int = 64, boxes: int = 1, unit: int = 3, ids: Ids = IDS
) -> Store:
    """Build the small store, or resume it, and seal it."""
    manifest = small_manifest(tile_side=tile_side, view_side=view_side, boxes=boxes, unit=unit, ids=ids)
    with open_writer(path, manifest, small_table(ids)) as writer:
        for pending in writer.pending():
            writer.write(pending, small_blocks(manifest, pending, ids))
        writer.seal()
    return Store.open(path)


def _cut(tile: NDArray[np.uint8], box: Box, geometry: Geometry) -> NDArray[np.uint8]:
    window = cut_window(cut_source(tile, geometry), box, geometry)
    if geometry.enlarged:
        window = Lanczos().enlarge(window[None], int(geometry.factor), ["window"])[0]
    return finish_view(window, box, geometry)
