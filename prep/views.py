"""Which boxes at which zoom, and how a view is cut from a tile. Planning is pure; cutting touches pixels only.

A view has a source of side Q: the field (the tile downsampled to `view_side` S) or the tile as delivered. A patch of
side Q/zoom is cut from it and brought to S by the factor S x zoom / Q: below 1 the area mean, 1 nothing, 2 and 4 an
upscaler. An upscaler sees real neighbours around the patch, in a window of one size for the whole view: at an edge the
window is shifted inward, not shrunk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.settings import Recipe
from store.schema import Box, SchemaError, Source, View

RECIPES: dict[Recipe, tuple[tuple[int, Source], ...]] = {
    Recipe.PAPER: ((1, Source.FIELD), (2, Source.FIELD), (4, Source.FIELD)),  # R1: downsample first
    Recipe.NATIVE: ((1, Source.NATIVE), (2, Source.NATIVE), (4, Source.NATIVE)),  # R2: zoom into the tile
    Recipe.WIDE: ((1, Source.NATIVE), (2, Source.NATIVE), (4, Source.NATIVE), (8, Source.NATIVE)),  # R4
}
ENLARGEMENTS = (2, 4)  # one BSRGAN for each
MAC_PER_PIXEL = {2: 16_873_920, 4: 17_926_848}  # of BSRGAN, per input pixel, counted over its layers


def plan_views(recipe: Recipe, boxes: int) -> tuple[View, ...]:
    """The views of a recipe, with `boxes` boxes per pair at every zoom above 1."""
    return tuple(View(zoom=zoom, source=source, count=boxes if zoom > 1 else 1) for zoom, source in RECIPES[recipe])


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """One view of tiles of one side, with all its lengths checked against each other."""

    view: View
    tile_side: int
    view_side: int
    margin: int

    def __post_init__(self) -> None:
        tile, zoom = self.tile_side, self.view.zoom
        step = 2 * zoom
        if tile % step:
            nearest = ", ".join(str(n) for n in (tile // step * step, (tile // step + 1) * step) if n)
            raise SchemaError(
                f"tile side {tile} px does not divide by {step} (2 x zoom {zoom}); nearest that do: {nearest}"
            )
        if self.view.source is Source.FIELD and tile < self.view_side:
            raise SchemaError(
                f"tile side {tile} px is smaller than view_side {self.view_side} px, and the field is only ever "
                f"downsampled; set view_side to {tile} or less"
            )
        if self.source_side % zoom:
            raise SchemaError(
                f"view_side {self.view_side} px does not divide by zoom {zoom}; "
                f"use {self.view_side // zoom * zoom or zoom} or {(self.view_side // zoom + 1) * zoom}"
            )
        if self.factor > 1 and self.factor not in ENLARGEMENTS:
            raise SchemaError(
                f"view {self.view.name} of tiles of {tile} px at view_side {self.view_side} px would be enlarged by "
                f"{float(self.factor):g}; only {' and '.join(map(str, ENLARGEMENTS))} exist: "
                f"set view_side so that view_side x {zoom} / {self.source_side} is one of them or at most 1"
            )

    @property
    def source_side(self) -> int:
        """Q: side of the picture that the patch is cut from."""
        return self.view_side if self.view.source is Source.FIELD else self.tile_side

    @property
    def patch_side(self) -> int:
        """Side of the patch in source pixels."""
        return self.source_side // self.view.zoom

    @property
    def factor(self) -> Fraction:
        """By how much the patch is enlarged."""
        return Fraction(self.view_side, self.patch_side)

    @property
    def enlarged(self) -> bool:
        """Whether an upscaler is needed."""
        return self.factor > 1

    @property
    def window_side(self) -> int:
        """Side of what an upscaler sees: the patch with its margin, at most the whole source."""
        return min(self.patch_side + 2 * self.margin, self.source_side) if self.enlarged else self.patch_side

    @property
    def grid(self) -> int:
        """Boxes start at multiples of this many tile pixels, so that they are whole in the source too; always even."""
        return lcm(2, Fraction(self.tile_side, self.source_side).numerator)

    def flop(self) -> int:
        """Floating point operations to enlarge one picture with BSRGAN; 1 multiply-add counts as 2."""
        return 2 * MAC_PER_PIXEL[int(self.factor)] * self.window_side**2 if self.enlarged else 0


def draw_box(tile_side: int, zoom: int, grid: int, generator: np.random.Generator) -> Box:
    """A box of side `tile_side / zoom` at a random place on a grid of `grid` px.

    >>> draw_box(1024, 4, 2, np.random.default_rng(0)).side
    256
    """
    side = tile_side // zoom
    top, left = (grid * int(n) for n in generator.integers(0, (tile_side - side) // grid + 1, size=2))
    return Box(top=top, left=left, side=side)


def plan_boxes(geometry: Geometry, seed: int, pair_id: str) -> list[Box]:
    """The boxes of a pair: a function of (seed, pair, zoom, index), the same for both stains."""
    view = geometry.view
    return [
        draw_box(geometry.tile_side, view.zoom, geometry.grid, keyed_generator(seed, pair_id, view.zoom, index))
        for index in range(view.count)
    ]


def keyed_generator(*key: int | str) -> np.random.Generator:
    """A generator that depends on its key and on nothing else."""
    return np.random.default_rng(list(hashlib.sha256(repr(key).encode()).digest()))


def cut_source(tile: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """The picture that patches are cut from: the field or the tile, u8 [Q,Q,3]."""
    return shrink(tile, geometry.source_side)


def cut_window(source: NDArray[np.uint8], box: Box, geometry: Geometry) -> NDArray[np.uint8]:
    """The patch of a box with its margin of real neighbours, u8 [W,W,3]."""
    top, left = (_window_start(n, geometry) for n in _patch_start(box, geometry))
    side = geometry.window_side
    return source[top : top + side, left : left + side]


def finish_view(window: NDArray[np.uint8], box: Box, geometry: Geometry) -> NDArray[np.uint8]:
    """Cut the margin off an enlarged window, or bring a patch that needs no enlarging to the view side; u8 [S,S,3]."""
    if not geometry.enlarged:
        return shrink(window, geometry.view_side)
    factor = int(geometry.factor)
    top, left = (factor * (n - _window_start(n, geometry)) for n in _patch_start(box, geometry))
    return window[top : top + geometry.view_side, left : left + geometry.view_side]


@contextmanager
def one_thread_a_call() -> Iterator[None]:
    """Let cv2 work on the thread that calls it: pictures are shared out already, and its own threads wait awake."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def shrink(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Bring a square picture down to `side` by the mean over areas, M11; one of that side is returned as it is."""
    if picture.shape[0] == side:
        return picture
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _patch_start(box: Box, geometry: Geometry) -> tuple[int, int]:
    """The corner of the patch in source pixels."""
    return (
        box.top * geometry.source_side // geometry.tile_side,
        box.left * geometry.source_side // geometry.tile_side,
    )


def _window_start(patch_start: int, geometry: Geometry) -> int:
    """Where the window begins: the margin before the patch, shifted so that it lies in the source."""
    margin = (geometry.window_side - geometry.patch_side) // 2 if geometry.window_side < geometry.source_side else 0
    wanted = patch_start - margin
    return min(max(wanted, 0), geometry.source_side - geometry.window_side)
