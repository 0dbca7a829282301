"""Folders of files under the names of tiles, and pairs of noise in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prep.settings import Layout
from prep.tiles.folders.recognise import Asked
from prep.tiles.layouts import find_data_set, two_folders
from prep.tiles.pairs import Discovery, pair_tiles
from prep.tiles.splitting.slides import name_slides
from store.images import PictureU8, write_png
from store.schema import Split

MIST = ("trainA", "trainB", "valA", "valB")


def touch(folder: Path, *names: str) -> None:
    """Empty files: pairing reads names only."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def discover(data: Path, layout: Layout = Layout.AUTO, slide_pattern: str = "") -> Discovery:
    """The candidates in a data folder, in its published split."""
    return name_slides(pair_tiles(find_data_set(data, Asked(layout=layout))), slide_pattern)


def discover_folders(he: Path, ihc: Path) -> Discovery:
    """The candidates in two folders, one per stain."""
    return name_slides(pair_tiles(two_folders(he, ihc)), "")


def ids(discovery: Discovery, split: Split = Split.TRAIN) -> list[str]:
    return [candidate.id for candidate in discovery.candidates if candidate.split is split]


def tile(seed: int, side: int = 32) -> PictureU8:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def write_pair(data: Path, name: str, seed: int, side: int = 32) -> None:
    write_png(data / "HE" / f"{name}.png", tile(seed, side))
    write_png(data / "IHC" / f"{name}.png", tile(seed + 1000, side))
