"""How much brown there is: DAB optical density by colour deconvolution.

Pictures are u8 [H,W,3] RGB; densities are decadic optical densities, OD = -log10(I / 255), along the DAB vector.

Source: Ruifrok & Johnston 2001, through scikit-image's `hed_from_rgb`, the inverse of

    haematoxylin (0.65, 0.70, 0.29)    eosin (0.07, 0.99, 0.11)    DAB (0.27, 0.57, 0.78)

The eosin row stays although IHC has none: with it the pink of an untranslated H&E picture is eosin, not DAB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.color import hed_from_rgb, separate_stains

DAB = 2  # column of the deconvolution matrix
DECADES = 6.0  # separate_stains divides log(I) by log(1e-6); times 6 it is the decadic density again
POSITIVE = 0.2  # OD from which a pixel counts as positive: QuPath's default for 1+ by the mean DAB density of a nucleus


@dataclass(frozen=True, slots=True, kw_only=True)
class Brown:
    """The DAB of one picture: mean optical density, and the share of its area that is positive, 0 to 1."""

    density: float
    positive: float


def dab_density(picture_u8: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Optical density of DAB per pixel, [H,W], at least 0.

    A grey value of 0 counts as 1, so that black is 2.4 and not infinite. Where the stains cannot explain a colour,
    a concentration comes out negative; it is clipped to 0.
    """
    light = np.maximum(picture_u8, 1) / 255.0  # unit [H,W,3]
    return np.asarray(separate_stains(light, hed_from_rgb)[..., DAB] * DECADES, dtype=np.float64)


def mean_dab(picture_u8: NDArray[np.uint8]) -> float:
    """Mean DAB optical density over all pixels, background included."""
    return float(dab_density(picture_u8).mean())


def brown(picture_u8: NDArray[np.uint8]) -> Brown:
    """Mean density and positive share over all pixels, from one deconvolution."""
    density = dab_density(picture_u8)
    return Brown(density=float(density.mean()), positive=float((density >= POSITIVE).mean()))
