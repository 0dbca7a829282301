"""Mean optical densities of the stains in a picture, by the same colour deconvolution as `store.stain.dab`."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from skimage.color import hed_from_rgb

WHITE = 255
_LEVELS = -np.log10(np.maximum(np.arange(256), 1) / WHITE)  # [256], optical density of each grey level


class Substance(IntEnum):
    """A stain, by its column of the deconvolution matrix."""

    HAEMATOXYLIN = 0
    EOSIN = 1
    DAB = 2


SHARES = {of: _LEVELS * hed_from_rgb[:, of, None] for of in Substance}  # [3,256] each: of every grey level


def mean_density(picture_u8: NDArray[np.uint8], of: Substance) -> float:
    """Mean optical density (decadic) of a stain over all pixels of u8 [H,W,3], each at least 0."""
    shares = SHARES[of]
    density = np.take(shares[0], picture_u8[..., 0])
    for channel in (1, 2):
        density += np.take(shares[channel], picture_u8[..., channel])
    return float(np.maximum(density, 0, out=density).mean())
