"""DAB of a picture, the brown stain: how much there is, and where.

Pictures are u8 [H,W,3] RGB; densities are optical densities (OD) of DAB as `store.stain.dab` defines them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.stain.dab import dab_density

POSITIVE = 0.2  # OD from which a pixel counts as positive: QuPath's default for 1+ by the mean DAB density of a nucleus
ZOOMS = (1, 2, 4)  # agreement is measured on whole pictures, their quarters and their sixteenths


@dataclass(frozen=True, slots=True, kw_only=True)
class DabStats:
    """The DAB of one picture: mean optical density, its integral (OD px²), and the share of the area that is positive.

    `part_density` and `part_positive` hold mean density and positive share of its parts: z² numbers at each zoom z, row
    by row.
    """

    density: float
    integrated: float
    positive: float
    part_density: dict[int, NDArray[np.float64]]
    part_positive: dict[int, NDArray[np.float64]]


def dab_stats(picture_u8: NDArray[np.uint8]) -> DabStats:
    """The DAB of one picture, u8 [H,W,3], from one deconvolution."""
    return density_stats(dab_density(picture_u8))


def density_stats(density: NDArray[np.float64]) -> DabStats:
    """The DAB of a density map [H,W]; parts differ by one pixel where a zoom does not divide a side."""
    positive = density >= POSITIVE
    return DabStats(
        density=float(density.mean()),
        integrated=float(density.sum()),
        positive=float(positive.mean()),
        part_density={zoom: _part_means(density, zoom) for zoom in ZOOMS},
        part_positive={zoom: _part_means(positive, zoom) for zoom in ZOOMS},
    )


def _part_means(numbers: NDArray[np.float64] | NDArray[np.bool_], zoom: int) -> NDArray[np.float64]:
    """The mean of each part, [zoom²], row by row."""
    bands = np.array_split(numbers, zoom)
    return np.array([part.mean() for band in bands for part in np.array_split(band, zoom, axis=1)])


def as_numbers(stats: DabStats) -> list[float]:
    """All numbers of a picture in one list."""
    parts = [*stats.part_density.values(), *stats.part_positive.values()]
    return [stats.density, stats.integrated, stats.positive, *np.concatenate(parts).tolist()]


def from_numbers(numbers: Sequence[float]) -> DabStats:
    """The inverse of `as_numbers`."""
    density, integrated, positive, *rest = numbers
    parts = np.split(np.array(rest), np.cumsum([zoom * zoom for zoom in ZOOMS * 2])[:-1])
    return DabStats(
        density=density,
        integrated=integrated,
        positive=positive,
        part_density=dict(zip(ZOOMS, parts[: len(ZOOMS)], strict=True)),
        part_positive=dict(zip(ZOOMS, parts[len(ZOOMS) :], strict=True)),
    )
