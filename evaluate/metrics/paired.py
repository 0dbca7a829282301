"""Metrics of one translated picture and the real one: SSIM, PSNR and PHV, as published evaluations compute them.

SSIM and PSNR take u8 [H,W,3] RGB, PHV feature vectors. LPIPS is in `evaluate.features.lpips`. Sources: the evaluations
of ASP (Li et al., MICCAI 2023) and of BCI (Liu et al., CVPRW 2022), which call scikit-image with its defaults: SSIM is
its number to 1e-10, PSNR to the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from evaluate.metrics.ssim import similarities

WHITE = 255  # L of the formula


def ssim(fake_u8: NDArray[np.uint8], real_u8: NDArray[np.uint8]) -> float:
    """Structural similarity, at most 1: mean over the channels R, G, B, each over 7x7 uniform windows.

    K1 0.01, K2 0.03, sample covariance (N/(N-1), N = 49), mean of the map without its outer 3 px. Not on luminance, not
    Gaussian-windowed. Source: Wang et al. 2004, eq. (13), in the variant named above.
    """
    return similarities([fake_u8], real_u8)[0]


def psnr(fake_u8: NDArray[np.uint8], real_u8: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255² / MSE) over all pixels and channels.

    Identical pictures give infinity. An average over pictures is the mean of their dB values, so one infinity makes it
    infinite, and it is reported as such: it shows that a real picture is among the translated ones.
    """
    difference = np.subtract(
        fake_u8, real_u8, dtype=np.uint16
    )  # modulo 2^16, and so is its square, which is below that
    error = int(np.square(difference).sum(dtype=np.int64)) / difference.size
    return float(10 * np.log10(WHITE**2 / error)) if error else inf


def phv(
    fake: Sequence[NDArray[np.floating]], real: Sequence[NDArray[np.floating]], threshold: float
) -> NDArray[np.float64]:
    """Perceptual hash value: the share of channels whose spatial mean differs by more than `threshold`, [N,layer].

    fake, real: for each layer the spatial means [N,C] of N pictures. Source: ASP repository, util/perceptual.py.
    """
    shares = [(np.abs(one - two) > threshold).mean(axis=1) for one, two in zip(fake, real, strict=True)]
    return np.stack(shares, axis=1)
