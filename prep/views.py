"""Which boxes at which zoom, and how a view is cut from a tile. Planning is pure; cutting touches pixels only.

A view has a source of side Q: `field` is the tile downsampled to `view_side` S, `native` is the tile as delivered. A
patch of side Q/zoom is cut from the source and brought to S by the factor S x zoom / Q: below 1 by the mean over areas,
at 1 not at all, at 2 and 4 by an upscaler. The upscaler gets a window: the patch with a margin of real pixels around
it. All windows of a view have one size: at an edge of the source a window is shifted inward, not shrunk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import cv2
import numpy as np

from prep.settings import PrepSettings, Recipe, how_to_set
from store.images import PictureU8
from store.schema import Box, SchemaError, Source, View

RECIPES: dict[Recipe, tuple[tuple[int, Source], ...]] = {
    Recipe.PAPER: ((1, Source.FIELD), (2, Source.FIELD), (4, Source.FIELD)),  # R1: downsample first
    Recipe.NATIVE: ((1, Source.NATIVE), (2, Source.NATIVE), (4, Source.NATIVE)),  # R2: zoom into the tile
    Recipe.WIDE: ((1, Source.NATIVE), (2, Source.NATIVE), (4, Source.NATIVE), (8, Source.NATIVE)),  # R4
}
LEAST_SIDE = 32  # px of a tile with views of the least side
ENLARGEMENTS = (2, 4)  # one BSRGAN for each
MAC_PER_PIXEL = {2: 16_873_920, 4: 17_926_848}  # of BSRGAN, per input pixel, counted over its layers


def plan_views(recipe: Recipe, boxes: int) -> tuple[View, ...]:
    """The views of a recipe, with `boxes` boxes per pair at every zoom above 1."""
    return tuple(View(zoom=zoom, source=source, count=boxes if zoom > 1 else 1) for zoom, source in RECIPES[recipe])


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """One view of tiles of one side, with all its lengths, px, checked against each other."""

    view: View
    tile_side: int
    view_side: int
    margin: int

    def __post_init__(self) -> None:
        tile, zoom = self.tile_side, self.view.zoom
        step = 2 * zoom
        if tile % step:
            near = ", ".join(str(n) for n in (tile // step * step, (tile // step + 1) * step) if n)
            raise SchemaError(
                f"tile side {tile} px does not divide by {step} (2 x zoom {zoom}); nearest that do: {near}; "
                f"cut the tiles to such a side, as {how_to_set(f'tile_side={tile // step * step or step}')} does"
            )
        if self.view.source is Source.FIELD and tile < self.view_side:
            least = LEAST_SIDE // 2
            smaller = how_to_set(f"view_side={max(tile // 2, least)}")
            way = f"set view_side to {tile} or less, for example {smaller}" if tile >= least else "give larger tiles"
            raise SchemaError(
                f"tile side {tile} px is smaller than view_side {self.view_side} px, to which this recipe downsamples "
                f"tiles; {way}"
            )
        if self.source_side % zoom:
            raise SchemaError(
                f"view_side {self.view_side} px does not divide by zoom {zoom}; "
                f"use {self.view_side // zoom * zoom or zoom} or {(self.view_side // zoom + 1) * zoom}: "
                f"{how_to_set(f'view_side={self.view_side // zoom * zoom or zoom}')}"
            )
        if self.factor > 1 and self.factor not in ENLARGEMENTS:
            sides = [factor * self.patch_side for factor in (1, *ENLARGEMENTS)]
            nearest = min(sides, key=lambda side: abs(side - self.view_side))
            raise SchemaError(
                f"view {self.view.name} of tiles of {tile} px at view_side {self.view_side} px would be enlarged by "
                f"{float(self.factor):g}; only {' and '.join(map(str, ENLARGEMENTS))} exist: "
                f"use view_side {sides[2]}, {sides[1]} or at most {sides[0]}, {how_to_set(f'view_side={nearest}')}"
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
        """Side of the view divided by side of the patch: above 1 an upscaler is needed."""
        return Fraction(self.view_side, self.patch_side)

    @property
    def enlarged(self) -> bool:
        """Whether an upscaler makes the view from the patch."""
        return self.factor > 1

    @property
    def window_side(self) -> int:
        """Side of the upscaler's input: the patch with its margin, at most the whole source."""
        return min(self.patch_side + 2 * self.margin, self.source_side) if self.enlarged else self.patch_side

    @property
    def grid(self) -> int:
        """Boxes start at multiples of this many tile pixels: on whole pixels of the source too; always even."""
        return lcm(2, Fraction(self.tile_side, self.source_side).numerator)

    def flop(self, macs: Mapping[int, int] = MAC_PER_PIXEL) -> int:
        """Floating point operations of a network for one picture, BSRGAN's unless others are given by factor.

        One multiply-add counts as 2.
        """
        return 2 * macs[int(self.factor)] * self.window_side**2 if self.enlarged else 0


def plan_geometries(settings: PrepSettings, tile_side: int, *, example: str = "") -> tuple[Geometry, ...]:
    """The views of the recipe for tiles of `tile_side` px; SchemaError, with the `example` tile, if they do not fit."""
    try:
        largest_zoom_first = [  # the largest zoom restricts a side most: the side that its error names suits every view
            Geometry(view=view, tile_side=tile_side, view_side=settings.view_side, margin=settings.margin)
            for view in reversed(plan_views(settings.recipe, settings.boxes))
        ]
    except SchemaError as error:
        raise SchemaError(f"{example}: {error}" if example else str(error)) from error
    return tuple(reversed(largest_zoom_first))


def check_tile_side(settings: PrepSettings) -> None:
    """Raise SchemaError, with the nearest side that does, if squares of `tile_side` px do not fit the recipe."""
    if settings.tile_side:
        plan_geometries(settings, settings.tile_side)


def cut_to_fit(settings: PrepSettings, sides: Sequence[int]) -> str:
    """How a person sets squares that fit the recipe and pictures of these shortest sides; empty if none do.

    Twice the view side is taken before the view side, and that before the largest side; a picture that is too small is
    left out of account if others are not.
    """
    for most in sorted(sides):
        wanted = [side for side in (2 * settings.view_side, settings.view_side) if side <= most]
        for tile_side in (*wanted, *range(most, 1, -1)):
            if _fits(settings, tile_side):
                return how_to_set(f"tile_side={tile_side}")
    step = 4 * max(zoom for zoom, _ in RECIPES[settings.recipe])
    tile_side = min(sides, default=0) // step * step
    return how_to_set(f"tile_side={tile_side}", f"view_side={tile_side // 2}") if tile_side >= LEAST_SIDE else ""


def largest_side(settings: PrepSettings, most: int) -> int:
    """The largest side of a tile, at most `most` px, that fits the recipe; 0 if there is none."""
    return next((side for side in range(most, 1, -1) if _fits(settings, side)), 0)


def _fits(settings: PrepSettings, tile_side: int) -> bool:
    try:
        plan_geometries(settings, tile_side)
    except SchemaError:
        return False
    return True


def super_resolution_flop(geometries: tuple[Geometry, ...], tiles: int, macs: Mapping[int, int] = MAC_PER_PIXEL) -> int:
    """Floating point operations of super-resolution for `tiles` tiles, two in each pair, margins included."""
    return sum(tiles * geometry.view.count * geometry.flop(macs) for geometry in geometries)


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


def cut_tile(geometries: Sequence[Geometry], tile: PictureU8, boxes: Sequence[Sequence[Box]]) -> list[list[PictureU8]]:
    """The pictures of every view of one tile, one for each box: windows to enlarge, or views that need no upscaler.

    tile: u8 [T,T,3]. A window is u8 [W,W,3], a view u8 [S,S,3]. Each source is made once for all views.
    """
    sides = {geometry.source_side: geometry for geometry in geometries}
    sources = {side: cut_source(tile, geometry) for side, geometry in sides.items()}
    return [
        _cut_boxes(sources[geometry.source_side], row, geometry)
        for geometry, row in zip(geometries, boxes, strict=True)
    ]


def cut_source(tile: PictureU8, geometry: Geometry) -> PictureU8:
    """The picture that patches are cut from, u8 [Q,Q,3]: the tile, downsampled if the view's source is `field`."""
    return shrink(tile, geometry.source_side)


def cut_window(source: PictureU8, box: Box, geometry: Geometry) -> PictureU8:
    """The patch of a box with its margin of real pixels, u8 [W,W,3]."""
    top, left = (_window_start(n, geometry) for n in _patch_start(box, geometry))
    side = geometry.window_side
    return source[top : top + side, left : left + side]


def finish_view(window: PictureU8, box: Box, geometry: Geometry) -> PictureU8:
    """Cut the margin off an enlarged window, or bring a patch that needs no upscaler to the view side; u8 [S,S,3]."""
    if not geometry.enlarged:
        return shrink(window, geometry.view_side)
    factor = int(geometry.factor)
    top, left = (factor * (n - _window_start(n, geometry)) for n in _patch_start(box, geometry))
    return window[top : top + geometry.view_side, left : left + geometry.view_side]


def shrink(picture: PictureU8, side: int) -> PictureU8:
    """Downsample a square picture to `side` px by the mean over areas, M11; one of that side is returned unchanged."""
    if picture.shape[0] == side:
        return picture
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _cut_boxes(source: PictureU8, boxes: Sequence[Box], geometry: Geometry) -> list[PictureU8]:
    windows = [cut_window(source, box, geometry) for box in boxes]
    return (
        windows
        if geometry.enlarged
        else [finish_view(window, box, geometry) for window, box in zip(windows, boxes, strict=True)]
    )


def _patch_start(box: Box, geometry: Geometry) -> tuple[int, int]:
    """The corner of the patch in source pixels."""
    return (
        box.top * geometry.source_side // geometry.tile_side,
        box.left * geometry.source_side // geometry.tile_side,
    )


def _window_start(patch_start: int, geometry: Geometry) -> int:
    """Where the window begins: one margin before the patch, shifted so that the window is inside the source."""
    margin = (geometry.window_side - geometry.patch_side) // 2 if geometry.window_side < geometry.source_side else 0
    wanted = patch_start - margin
    return min(max(wanted, 0), geometry.source_side - geometry.window_side)
