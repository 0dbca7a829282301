"""Details of translated pictures at the same borders of tiles, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np

from evaluate.report.html_images import PagePicture, PictureGrid, picture_address
from evaluate.seams.gathering import Entry, Group, open_output
from store.images import PictureU8
from store.slides.geometry import Grid, Rect
from store.slides.seams import Border, Seams, plan_borders

SHOWN = 6  # borders
SIDE = 256  # px of a crop
TICK, WIDE = 10, 1  # px of the marks at both ends of a border


def choose_borders(group: Group, found: Sequence[Seams | None]) -> list[Border]:
    """The worst border of each setting, then others, spread evenly: the same for all settings."""
    worst = [Border(first=seams.worst.first, second=seams.worst.second) for seams in found if seams]
    every = list(plan_borders(group.first.grid, group.skipped))
    spread = [every[number * len(every) // SHOWN] for number in range(SHOWN)] if every else []
    return list(dict.fromkeys([*worst, *spread]))[:SHOWN]


def show_borders(group: Group, borders: Sequence[Border]) -> PictureGrid:
    """A row for each border, a column for each setting."""
    columns = [_crops(entry, borders) for entry in group.entries]
    return PictureGrid(
        heads=[entry.setting for entry in group.entries],
        rows=[list(row) for row in zip(*columns, strict=True)],
        pixels=True,
    )


def crop_of(border: Border, grid: Grid) -> Rect:
    """The square around the middle of a border, moved into the picture where it would stick out.

    >>> crop_of(Border(first=(0, 0), second=(0, 1)), Grid(height=600, width=600, side=300))
    Rect(top=22, left=172, height=256, width=256)
    """
    tile = grid.tile(*border.second)
    height, width = min(SIDE, grid.height), min(SIDE, grid.width)
    middle = (tile.top + tile.height // 2, tile.left) if border.is_vertical else (tile.top, tile.left + tile.width // 2)
    top = min(max(0, middle[0] - height // 2), grid.height - height)
    left = min(max(0, middle[1] - width // 2), grid.width - width)
    return Rect(top=top, left=left, height=height, width=width)


def marked(crop: PictureU8, rect: Rect, border: Border, grid: Grid) -> PictureU8:
    """A crop with short black ticks where the line of the border enters and leaves it."""
    tile, shown = grid.tile(*border.second), np.array(crop)
    if border.is_vertical:
        line = tile.left - rect.left
        shown[:TICK, line - WIDE : line + WIDE] = shown[-TICK:, line - WIDE : line + WIDE] = 0
    else:
        line = tile.top - rect.top
        shown[line - WIDE : line + WIDE, :TICK] = shown[line - WIDE : line + WIDE, -TICK:] = 0
    return shown


def _crops(entry: Entry, borders: Sequence[Border]) -> list[PagePicture]:
    """What one output shows at each border."""
    grid = entry.record.grid
    with closing(open_output(entry)) as source:
        return [
            PagePicture(
                address=picture_address(marked(source.read(rect), rect, border, grid)),
                what=f"{entry.setting}, tiles {border.first} and {border.second}",
                caption=f"{_spoken(border)}; from row {rect.top}, column {rect.left} px",
            )
            for border in borders
            for rect in [crop_of(border, grid)]
        ]


def _spoken(border: Border) -> str:
    first, second = (f"({row}, {column})" for row, column in (border.first, border.second))
    where = ("left", "right") if border.is_vertical else ("above", "below")
    return f"tile {first} {where[0]}, {second} {where[1]}"
