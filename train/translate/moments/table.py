"""From the moments of all tiles of a picture to the field of one window.

A table is float32 [rows,columns,K], in memory or mapped from a file, with the moments of each tile of a `Grid`; a tile
that was skipped is NaN. Nothing here reads more of it than the tiles around a window.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from store.slides.geometry import Rect
from train.translate.moments.field import Field, Geometry
from train.translate.moments.layout import Layout
from train.translate.settings import Kernel

Moments = NDArray[np.float32]

GAUSSIAN = 3.0  # KIN repository: the deviation of its kernel, in tiles


def pooled(moments: Moments, layout: Layout) -> Moments:
    """The moments of several pictures as if they were one, [N,K] -> [K]; those that are NaN are left out.

    The variance of all is the mean of the variances and the variance of the means. Of the maxima it is the mean: the
    maximum of all would be that of a larger picture than the generator has been trained with.
    """
    known = moments[~np.isnan(moments).any(axis=1)].astype(np.float64)
    assert len(known), "of no picture at all nothing can be said"
    result: NDArray[np.float64] = known.mean(axis=0)
    variances = (known[:, layout.deviations] ** 2).mean(axis=0) + known[:, layout.means].var(axis=0)
    result[layout.deviations] = np.sqrt(variances)
    return result.astype(np.float32)


def kernel_weights(kernel: Kernel, side: int) -> NDArray[np.float64]:
    """The weights of the tiles around one, [side,side], with sum 1. Source: KIN (ECCV 2022) and its repository."""
    away = np.arange(side) - side // 2
    line = np.ones(side) if kernel is Kernel.CONSTANT else np.exp(-(away**2) / (2 * GAUSSIAN**2))
    weights = np.outer(line, line)
    return np.asarray(weights / weights.sum())


def kernel_field(table: Moments, layout: Layout, row: int, column: int, weights: NDArray[np.float64]) -> Field:
    """KIN: the weighted means of the moments around a tile, of the deviations too; at the border tiles are repeated.

    Skipped tiles are left out and the other weights grow; without any tile around it is the nearest one.
    Source: Ho et al., Ultra-high-resolution unpaired stain transformation via KIN, ECCV 2022.
    """
    away = np.arange(len(weights)) - len(weights) // 2
    rows = (row + away).clip(0, table.shape[0] - 1)
    columns = (column + away).clip(0, table.shape[1] - 1)
    around = np.asarray(table[rows[:, None], columns], np.float64).reshape(-1, layout.size)  # [side * side,K]
    known = ~np.isnan(around).any(axis=1)
    if not known.any():
        return _everywhere(nearest(table, row, column), layout)
    shares = weights.ravel()[known]
    return _everywhere(shares @ around[known] / shares.sum(), layout)


def local_field(table: Moments, layout: Layout, side: int, window: Rect) -> Field:
    """The moments between the centres of the tiles around a window, for tiles of `side` px; see `node`.

    A function of the place in the picture alone, so that neighbouring windows agree where they overlap. Tiles at the
    right and bottom edge that are smaller count as whole ones, whose centre may lie outside the picture.
    """
    top, bottom = _nodes(window.top, window.bottom, side, table.shape[0])
    left, right = _nodes(window.left, window.right, side, table.shape[1])
    nodes = [[node(table, layout, row, column) for column in range(left, right)] for row in range(top, bottom)]
    geometry = Geometry(top=(top + 0.5) * side - window.top, left=(left + 0.5) * side - window.left, spacing=side)
    at_nodes = torch.from_numpy(np.array(nodes, np.float32)).permute(2, 0, 1)[None]  # [1,K,rows,columns]
    return Field(nodes=at_nodes, layout=layout, geometry=geometry)


def _nodes(first: int, end: int, side: int, count: int) -> tuple[int, int]:
    """The first tile whose centre counts for the px from `first` to `end`, and the one behind the last."""
    before, behind = (2 * first - side) // (2 * side), -((side - 2 * end) // (2 * side))
    return min(max(before, 0), count - 1), max(min(behind, count - 1), 0) + 1


def node(table: Moments, layout: Layout, row: int, column: int) -> NDArray[np.float64]:
    """The moments of a tile, [K], where it has any; else the mean of the eight around it; else those of the nearest.

    A map without variance has no moments if one around it has: divided by a deviation that goes to 0 at its tile's
    centre, what the tissue beside it adds would grow without bound.
    """
    own = np.asarray(table[row, column], np.float64)
    block = np.asarray(table[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2], np.float64)
    around = block.reshape(-1, layout.size)
    has, have = _known(own[None], layout)[0], _known(around, layout)  # [K], [n,K]
    if has.all():
        return own
    if np.isnan(own).any() and np.isnan(around).any(axis=1).all():
        return nearest(table, row, column)
    count = have.sum(axis=0)
    means = np.where(have, around, 0).sum(axis=0) / count.clip(min=1)
    return np.where(has | (count == 0), np.nan_to_num(own), means)


def _known(moments: NDArray[np.float64], layout: Layout) -> NDArray[np.bool_]:
    """Which of the numbers [n,K] are moments: none of a skipped tile, and not those of a norm without variance."""
    known = ~np.isnan(moments)
    varies = moments[:, layout.deviations] > 0
    known[:, layout.means] &= varies
    known[:, layout.deviations] &= varies
    return known


def nearest(table: Moments, row: int, column: int) -> NDArray[np.float64]:
    """The moments of the tile nearest to a place, [K], in the smallest square around it where not all were skipped."""
    for radius in range(max(table.shape[:2])):
        top, left = max(row - radius, 0), max(column - radius, 0)
        ring = table[top : row + radius + 1, left : column + radius + 1]
        found = np.argwhere(~np.isnan(ring).any(axis=2))
        if len(found):
            distances = (found[:, 0] + top - row) ** 2 + (found[:, 1] + left - column) ** 2
            return np.asarray(ring[tuple(found[distances.argmin()])], np.float64)
    raise AssertionError("every tile was skipped, so none has moments")


def _everywhere(moments: NDArray[np.floating], layout: Layout) -> Field:
    return Field.everywhere(torch.from_numpy(np.array(moments, np.float32)), layout)
