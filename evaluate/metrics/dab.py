"""How much brown there is, and how well two pictures agree on it: DAB optical density by colour deconvolution.

Pictures are u8 [H,W,3] RGB; densities are decadic optical densities, OD = -log10(I / 255), along the DAB vector.

Source: Ruifrok & Johnston 2001, through scikit-image's `hed_from_rgb`, the inverse of

    haematoxylin (0.65, 0.70, 0.29)    eosin (0.07, 0.99, 0.11)    DAB (0.27, 0.57, 0.78)

The eosin row stays although IHC has none: with it the pink of an untranslated H&E picture is eosin, not DAB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from store.stain.dab import dab_density

POSITIVE = 0.2  # OD from which a pixel counts as positive: QuPath's default for 1+ by the mean DAB density of a nucleus
ZOOMS = (1, 2, 4)  # agreement is asked of whole pictures, their quarters and their sixteenths


@dataclass(frozen=True, slots=True, kw_only=True)
class Brown:
    """The DAB of one picture: mean optical density, its integral (OD px²), the share of its area that is positive."""

    density: float
    integrated: float
    positive: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Mean DAB density and positive share of the parts of one picture, z² numbers at each zoom z, row by row."""

    density: dict[int, NDArray[np.float64]]
    positive: dict[int, NDArray[np.float64]]


def brown(picture_u8: NDArray[np.uint8]) -> Brown:
    """Density, integral and positive share over all pixels, from one deconvolution."""
    return summed(dab_density(picture_u8))


def summed(density: NDArray[np.float64]) -> Brown:
    """The same of a density map [H,W]."""
    return Brown(
        density=float(density.mean()), integrated=float(density.sum()), positive=float((density >= POSITIVE).mean())
    )


def parts(density: NDArray[np.float64]) -> Parts:
    """A density map [H,W] in z x z parts for each zoom; parts differ by a pixel where z does not divide a side."""
    boxes = {
        zoom: [box for band in np.array_split(density, zoom) for box in np.array_split(band, zoom, axis=1)]
        for zoom in ZOOMS
    }
    return Parts(
        density={zoom: np.array([box.mean() for box in found]) for zoom, found in boxes.items()},
        positive={zoom: np.array([(box >= POSITIVE).mean() for box in found]) for zoom, found in boxes.items()},
    )


def relative_error(fake: Sequence[float], real: Sequence[float]) -> list[float]:
    """|fake - real| / real of each picture; NaN where there is no DAB in the real one.

    >>> relative_error([0.75, 0.1], [0.5, 0.0])
    [0.5, nan]
    """
    return [abs(one - two) / two if two > 0 else nan for one, two in zip(fake, real, strict=True)]
