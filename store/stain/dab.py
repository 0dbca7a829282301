"""Optical density of DAB, the brown stain of IHC, computed by colour deconvolution.

Densities are decadic, OD = -log10(I / 255), along the DAB vector. Source: Ruifrok & Johnston 2001, through
scikit-image's `hed_from_rgb`, the inverse of

    haematoxylin (0.65, 0.70, 0.29)    eosin (0.07, 0.99, 0.11)    DAB (0.27, 0.57, 0.78)

The row of eosin is kept although IHC has none: with it the pink of an untranslated H&E picture is eosin, not DAB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.color import hed_from_rgb, separate_stains

WHITE = 255
DAB = 2  # column of the deconvolution matrix
DECADES = 6.0  # separate_stains divides log(I) by log(1e-6); times 6 it is the decadic density
SHARES = -np.log10(np.maximum(np.arange(256), 1) / WHITE) * hed_from_rgb[:, DAB, None]  # [3,256], of each grey level


def dab_density(picture: NDArray[np.uint8] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Optical density of DAB per pixel, [H,W], at least 0, of a picture [H,W,3] RGB in grey levels.

    A grey level below 1 counts as 1, so that black is 2.4 and not infinite. A colour that the stains cannot explain has
    a negative concentration, which is clipped to 0.
    """
    if picture.dtype == np.uint8:
        return _look_up(np.asarray(picture, np.uint8))
    light = np.maximum(picture, 1) / WHITE  # unit [H,W,3]
    return np.asarray(separate_stains(light, hed_from_rgb)[..., DAB] * DECADES, dtype=np.float64)


def _look_up(levels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The same of 8-bit pictures, in a ninth of the time: a grey level has one of 256 densities. Equal to 1e-14."""
    density: NDArray[np.float64] = np.take(SHARES[0], levels[..., 0])
    for channel in (1, 2):
        density += np.take(SHARES[channel], levels[..., channel])
    return np.asarray(np.maximum(density, 0, out=density), np.float64)


def mean_dab(picture: NDArray[np.uint8] | NDArray[np.float64]) -> float:
    """Mean DAB optical density over all pixels, background included."""
    return float(dab_density(picture).mean())
