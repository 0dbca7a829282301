"""Slides of scanners whose files only OpenSlide puts together (extra `slides`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from store.images import PictureU8
from store.pictures.claims import plausible
from store.schema import PictureError
from store.slides.geometry import Grid
from store.slides.reading.segments import Cache, Segmented
from store.slides.reading.slide import Slide

if TYPE_CHECKING:
    from openslide import OpenSlide

MAKERS = {
    ".mrxs": "3DHISTECH",
    ".ndpi": "Hamamatsu",
    ".vms": "Hamamatsu",
    ".vmu": "Hamamatsu",
    ".scn": "Leica",
    ".bif": "Ventana",
    ".svslide": "Sakura",
    ".czi": "Zeiss",
    ".dcm": "DICOM",
}
SIDE = 1024  # px of the squares that are read: pixels between those of the file depend on where reading begins


@dataclass(frozen=True, slots=True, kw_only=True)
class _Squares:
    """The squares of one level of an open slide."""

    path: Path
    slide: OpenSlide
    number: int
    grid: Grid

    def load(self, row: int, column: int) -> PictureU8:
        """A square, u8 [h,w,3], white where nothing was scanned. Raises PictureError."""
        from openslide import OpenSlideError

        rect = self.grid.tile(row, column)
        down = self.slide.level_downsamples[self.number]
        place = (round(rect.left * down), round(rect.top * down))  # in px of level 0
        try:
            image = self.slide.read_region(place, self.number, (rect.width, rect.height))
        except OpenSlideError as error:
            raise PictureError(
                f"{self.path}: the part at {place[1]:,} px from the top and {place[0]:,} px from the left cannot be "
                f"read ({error}); fetch or export it again"
            ) from error
        pixels = np.asarray(image).astype(np.uint16)  # RGBA
        colours, alpha = pixels[..., :3], pixels[..., 3:]
        return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def open_by_openslide(path: Path, memory: int, maker: str) -> Slide:
    """Open a slide of a maker; squares of at most `memory` bytes are kept. Raises PictureError."""
    try:
        from openslide import OpenSlide, OpenSlideError
    except ImportError as error:
        raise PictureError(
            f"{path}: is a slide of {maker}, which OpenSlide reads; install it: pip install 'magstain[slides]'"
        ) from error
    try:
        slide = OpenSlide(path)
    except OpenSlideError as error:
        raise PictureError(
            f"{path}: OpenSlide cannot open it as a slide of {maker} ({error}); fetch or export it again, with all "
            "files that belong to it"
        ) from error
    cache = Cache.of(memory, slide.dimensions[0], SIDE, SIDE)
    mpp, mpp_from = _scale(slide)
    levels = []
    for number, (width, height) in enumerate(slide.level_dimensions):
        grid = Grid(height=height, width=width, side=SIDE)
        load = _Squares(path=path, slide=slide, number=number, grid=grid).load
        levels.append(
            Segmented(number=number, height=height, width=width, rows=SIDE, columns=SIDE, load=load, cache=cache)
        )
    return Slide(
        path=path,
        levels=levels,
        mpp=mpp,
        mpp_from=mpp_from,
        notes=("area that was not scanned becomes white",),
        shut=slide.close,
    )


def _scale(slide: OpenSlide) -> tuple[float | None, str]:
    """Micrometres per pixel, None where the slide does not say, and where it is from."""
    try:
        across, down = (float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, ValueError):
        return None, ""
    mpp, where = plausible(across, down, "openslide.mpp-x")
    return (mpp or None, where) if math.isfinite(across) else (None, "")
