"""The sources of a store's enlarged views: which views can be measured, and their source patches, cut again.

A patch is cut from the tile as delivered if the store keeps it. Else a view with source `field` is cut from x1, which
is the same downsampled tile. If the store has neither, the view cannot be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from prep.settings import how_to_set
from prep.upscaling.upscale import Lanczos
from prep.views import Geometry, cut_source, cut_window, finish_view, keyed_generator
from store.images import PictureU8
from store.reader import TILE, Store
from store.schema import Source, Split, Stain, StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How many pictures of each view and split are measured, 0 for all, and the seed of their random choice."""

    limit: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One enlarged view of one split; `origin` is the picture that its patches are cut from again: `tile` or `x1`."""

    split: Split
    geometry: Geometry
    origin: str

    @property
    def view(self) -> str:
        """The view's name: x2, x4."""
        return self.geometry.view.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeasured:
    """One enlarged view of one split whose source is not in the store."""

    split: Split
    view: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """A view and the pictures that it is compared with, u8 [side,side,3]: see `prep.fidelity.measures.measure`."""

    view: PictureU8
    patch: PictureU8
    lanczos: PictureU8
    tile: PictureU8


def plan_series(store: Store, splits: Sequence[Split]) -> tuple[list[Series], list[Unmeasured]]:
    """The views of these splits that can be measured, and those that cannot. StoreError if none can."""
    manifest = store.manifest
    geometries = {
        view.name: Geometry(
            view=view, tile_side=manifest.tile_side, view_side=manifest.view_side, margin=manifest.margin
        )
        for view in manifest.views
    }
    enlarged = [geometry for geometry in geometries.values() if geometry.enlarged]
    if not enlarged:
        raise StoreError(
            f"{store.address}: none of its views ({', '.join(geometries)}) was enlarged: nothing to measure"
        )
    if missing := [split for split in splits if split not in manifest.counts]:
        present = ", ".join(manifest.counts)
        raise StoreError(f"no pairs in {missing[0]} of {store.address}; it has {present}: choose one with --split")
    field_kept = "x1" in geometries and not geometries["x1"].enlarged
    series: list[Series] = []
    unmeasured: list[Unmeasured] = []
    for split in splits:
        for geometry in enlarged:
            if manifest.has_tiles(split):
                series.append(Series(split=split, geometry=geometry, origin=TILE))
            elif geometry.view.source is Source.FIELD and field_kept:
                series.append(Series(split=split, geometry=geometry, origin="x1"))
            else:
                unmeasured.append(_without_source(split, geometry))
    if not series:
        raise StoreError(f"{store.address}: {'; '.join(one.reason for one in unmeasured)}")
    return series, unmeasured


def draw_pictures(series: Series, pairs: int, sample: Sample) -> list[tuple[int, int]]:
    """The pictures to measure, as (row of the pair, index), in the order of the store; of pairs in both stains."""
    count = series.geometry.view.count
    drawn = np.arange(pairs * count)
    if 0 < sample.limit < len(drawn):
        generator = keyed_generator(sample.seed, str(series.split), series.view)
        drawn = np.sort(generator.choice(drawn, sample.limit, replace=False))
    return [divmod(int(place), count) for place in drawn]


def cut_again(store: Store, series: Series, stain: Stain, row: int, index: int) -> Pictures:
    """A view with, cut from its origin: the patch, Lanczos interpolation with the same margin, the tile's pixels."""
    geometry, box = series.geometry, store.box(series.split, series.view, row, index, stain)
    origin = store.picture(series.split, series.origin, stain, row)
    source = cut_source(origin, geometry)
    patch = cut_window(source, box, replace(geometry, margin=0))
    window = Lanczos().enlarge(cut_window(source, box, geometry)[None], int(geometry.factor), [series.view])[0]
    kept = series.origin == TILE
    return Pictures(
        view=store.picture(series.split, series.view, stain, row, index),
        patch=patch,
        lanczos=finish_view(window, box, geometry),
        tile=origin[box.top : box.top + box.side, box.left : box.left + box.side] if kept else patch,
    )


def _without_source(split: Split, geometry: Geometry) -> Unmeasured:
    view = geometry.view
    source = "the tile as delivered" if view.source is Source.NATIVE else "the downsampled tile"
    reason = (
        f"{view.name} of {split} cannot be measured: it was cut from {source}, and the store keeps no tiles of {split} "
        f"(keep_tiles = false); choose another --split, or build a store with {how_to_set('keep_tiles=true')}"
    )
    return Unmeasured(split=split, view=view.name, reason=reason)
