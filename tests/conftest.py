"""Stores and tiles that tests share: drawn with numpy, small, no downloads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from prep.settings import Recipe
from prep.upscale import Lanczos
from prep.views import Geometry, cut_source, cut_window, finish_view, plan_boxes, plan_views
from store.manifest import all_units
from store.reader import Store
from store.schema import Box, Manifest, Pair, Split, Stain, Table, Upscaler
from store.writer import open_writer

SHARED = Path(__file__).parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the real pictures in ../shared are not here")


def draw_tile(side: int, *key: int) -> NDArray[np.uint8]:
    """Smooth coloured blobs with fine grain, u8 [side,side,3]; a function of the key."""
    generator = np.random.default_rng(key)
    coarse = generator.integers(40, 230, (6, 6, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + generator.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def build_small_store(path: Path, *, tile_side: int = 128, view_side: int = 64, boxes: int = 1) -> Store:
    """A sealed store of 3 slides x 4 tiles: two slides in train, one in test; enlarged by Lanczos."""
    views = plan_views(Recipe.PAPER, boxes)
    geometries = [Geometry(view=view, tile_side=tile_side, view_side=view_side, margin=4) for view in views]
    ids = {Split.TRAIN: [f"s{s}_{t}_0" for s in (1, 2) for t in range(4)], Split.TEST: [f"s3_{t}_0" for t in range(4)]}
    manifest = Manifest(
        format=1,
        name="small",
        stain="test",
        synthetic=True,
        tile_side=tile_side,
        view_side=view_side,
        recipe=Recipe.PAPER,
        views=views,
        keep_tiles=True,
        margin=4,
        mpp={},
        upscaler=Upscaler(name="lanczos", digests={}, precision="u8", batch=4),
        unit=3,
        counts={split: len(names) for split, names in ids.items()},
        skipped=0,
        split="published",
        seed=0,
        settings={"seed": 0},
        software={"test": "1"},
    )
    pairs = {
        split: tuple(
            Pair(id=i, slide=i[:2], he=f"he/{i}.png", ihc=f"ihc/{i}.png", he_digest="00" * 32, ihc_digest="11" * 32)
            for i in names
        )
        for split, names in ids.items()
    }
    with open_writer(path, manifest, Table(pairs=pairs)) as writer:
        for unit in all_units(manifest):
            blocks: dict[str, NDArray[np.generic]] = {}
            for stain_index, stain in enumerate(Stain):
                tiles = [draw_tile(tile_side, unit.split is Split.TEST, row, stain_index) for row in unit.pairs]
                blocks[f"{unit.split}/tile/{stain}"] = np.stack(tiles)
                for geometry in geometries:
                    boxes_of = [plan_boxes(geometry, 0, ids[unit.split][row]) for row in unit.pairs]
                    name = f"{unit.split}/{geometry.view.name}"
                    blocks[f"{name}/{stain}"] = np.stack(
                        [[_cut(t, b, geometry) for b in bs] for t, bs in zip(tiles, boxes_of, strict=True)]
                    )
                    blocks[f"{name}/box"] = np.array(
                        [[(b.top, b.left, b.side) for b in bs] for bs in boxes_of], np.int32
                    )
            writer.write(unit, blocks)
        writer.seal()
    return Store.open(path)


def _cut(tile: NDArray[np.uint8], box: Box, geometry: Geometry) -> NDArray[np.uint8]:
    window = cut_window(cut_source(tile, geometry), box, geometry)
    if geometry.enlarged:
        window = Lanczos().enlarge(window[None], int(geometry.factor))[0]
    return finish_view(window, box, geometry)


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Read-only, shared by all tests of a session."""
    return build_small_store(tmp_path_factory.mktemp("store") / "small.zarr")
