"""The contact sheet of one pair: the tile with its boxes, and every view of it, H&E beside IHC."""

from __future__ import annotations

import difflib

import numpy as np
from numpy.typing import NDArray

from store.describe import describe_view
from store.reader import TILE, Store
from store.schema import Box, Split, Stain, StoreError
from store.sheet import Row, draw_sheet

COLUMNS = {Stain.HE: "H&E", Stain.IHC: "IHC"}
COLOURS = ((0, 160, 255), (0, 200, 70), (250, 210, 0))  # of boxes, RGB: neither pink nor brown nor blue-violet
LINE = 1 / 128  # thickness of a box's line, of the tile's side


def find_row(store: Store, split: Split, pair: str) -> int:
    """The row of a pair, given its id or its number from 0. Raises StoreError with what there is instead."""
    ids = [row.id for row in store.pairs(split)]
    if not ids:
        raise StoreError(f"no pairs in {split} of {store.address}; it has {', '.join(store.manifest.counts)}")
    if pair in ids:
        return ids.index(pair)
    if pair.isdecimal() and int(pair) < len(ids):
        return int(pair)
    near = ", ".join(difflib.get_close_matches(pair, ids, n=3, cutoff=0.0))
    raise StoreError(
        f"no pair {pair!r} in {split} of {store.address}; give 0 to {len(ids) - 1} or an id, such as {near}"
    )


def draw_pair(store: Store, split: Split, row: int) -> NDArray[np.uint8]:
    """The sheet of the pair in `row` of a split, u8 [H,W,3]."""
    manifest, pair = store.manifest, store.pairs(split)[row]
    rows = [_draw_tile(store, split, row)] if TILE in store.views(split) else []
    rows += [_draw_view(store, split, row, view.name, index) for view in manifest.views for index in range(view.count)]
    return draw_sheet(
        title=(
            f"{'SYNTHETIC, drawn and not tissue: ' if manifest.synthetic else ''}{manifest.name} {split} {pair.id}, "
            f"enlarged by {manifest.upscaler.name}"
        ),
        columns=tuple(COLUMNS.values()),
        rows=rows,
        footer=(f"slide {pair.slide}; {pair.he} and {pair.ihc}; recipe {manifest.recipe}; seal {manifest.seal[:12]}"),
        side=320,
    )


def _draw_tile(store: Store, split: Split, row: int) -> Row:
    """The tile as delivered, with the boxes of all zooms above 1 drawn into it."""
    zoomed = [view for view in store.manifest.views if view.zoom > 1]
    pictures = []
    for stain in Stain:
        picture = store.picture(split, TILE, stain, row)
        for place, view in enumerate(zoomed):
            for index in range(view.count):
                _outline(picture, store.box(split, view.name, row, index), COLOURS[place % len(COLOURS)])
        pictures.append(picture)
    return Row(label=f"tile: {store.side(TILE)} px as delivered, with the boxes of the views", pictures=tuple(pictures))


def _draw_view(store: Store, split: Split, row: int, view: str, index: int) -> Row:
    box = store.box(split, view, row, index)
    return Row(
        label=f"{view}: {describe_view(store.manifest.view(view), store.manifest)}",
        pictures=tuple(store.picture(split, view, stain, row, index) for stain in Stain),
        captions=(f"box: {box.side} px at top {box.top}, left {box.left}",),
    )


def _outline(picture: NDArray[np.uint8], box: Box, colour: tuple[int, int, int]) -> None:
    """Draw the inside edge of a box into `picture`, u8 [H,W,3]."""
    line = max(1, round(LINE * picture.shape[0]))
    window = picture[box.top : box.top + box.side, box.left : box.left + box.side]
    window[:line] = window[-line:] = window[:, :line] = window[:, -line:] = colour
