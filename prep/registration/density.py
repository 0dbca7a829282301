"""What both stains show: where tissue and its nuclei are dense.

Two densities, because neither serves every stain. Haematoxylin by colour deconvolution (Ruifrok & Johnston 2001) is the
stain that both pictures have; it is empty where DAB covers the nuclei. The optical density of red light is haematoxylin
with two fifths of DAB and hardly any eosin: it still has structure where all of the IHC is brown.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from skimage.color import hed_from_rgb

from store.images import PictureU8

DensityMap: TypeAlias = NDArray[np.float64]
WHITE = 255
RED, HAEMATOXYLIN = 0, 0  # channel of a picture; column of the deconvolution matrix
OPTICAL = -np.log10(np.maximum(np.arange(WHITE + 1), 1) / WHITE)  # of a grey level; black is 2.4
SHARES = OPTICAL * hed_from_rgb[:, HAEMATOXYLIN, None]  # [3,256], of haematoxylin


def densities(picture: PictureU8) -> tuple[DensityMap, DensityMap]:
    """Haematoxylin, at least 0, and the optical density of red light, each [H,W], of a picture u8 [H,W,3] RGB."""
    haematoxylin = SHARES[0][picture[..., 0]]
    for channel in (1, 2):
        haematoxylin += SHARES[channel][picture[..., channel]]
    return np.maximum(haematoxylin, 0, out=haematoxylin), OPTICAL[picture[..., RED]]
