"""SSIM from exact sums: scikit-image's `structural_similarity` at its defaults, in a tenth of the time.

All sums over a window are integers below 2**31, so they are exact and can be shared: a picture that is compared with
many is summed once, and a shifted picture has shifted sums. Only the last formula rounds. Pictures are u8 [H,W,3] RGB
and are taken band by band, so that what is computed from a band stays in the processor's cache.

Source: Wang et al., IEEE TIP 2004, eq. (13), over 7x7 uniform windows that lie inside the picture, K1 0.01, K2 0.03,
L 255, sample covariance (N/(N-1), N = 49). Numerator and denominator are multiplied by N² and N (N-1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from store.images import PictureU8
from store.schema import RunError

SIDE = 7  # px, of a window
AREA = SIDE * SIDE
ROWS = 32  # of windows, in a band
C1 = (0.01 * 255) ** 2 * AREA * AREA
C2 = (0.03 * 255) ** 2 * AREA * (AREA - 1)
Integers = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Some rows of a picture, u8 [h,w,3], and of each window [h-6,w-6,3]: sum, its square, N² times the variance.

    The largest number is N² 255², 1.6e8.
    """

    pixels: PictureU8
    sums: Integers
    squares: Integers
    variances: Integers

    def part(self, left: int, wide: int) -> Band:
        """The columns from `left` on, `wide` px."""
        inner = slice(left, left + wide - SIDE + 1)
        return Band(
            pixels=self.pixels[:, left : left + wide],
            sums=self.sums[:, inner],
            squares=self.squares[:, inner],
            variances=self.variances[:, inner],
        )


def similarities(fakes_u8: Sequence[PictureU8], real_u8: PictureU8) -> list[float]:
    """SSIM of each picture and the real one, at most 1; RunError if they are smaller than a window."""
    return [float(value) for value in shifted_similarities(fakes_u8, real_u8, [0])[:, 0]]


def shifted_similarities(
    fixed_u8: Sequence[PictureU8], moved_u8: PictureU8, lefts: Sequence[int]
) -> NDArray[np.float64]:
    """SSIM of each fixed picture [H,w,3] and the part of `moved_u8` [H,W,3] from each column `lefts` on, w px wide.

    Returns [fixed, lefts]. RunError if the pictures are smaller than a window.
    """
    high, wide = fixed_u8[0].shape[:2]
    if min(high, wide) < SIDE:
        raise RunError(
            f"pictures of {wide} x {high} px are smaller than a window of SSIM, {SIDE} x {SIDE} px; "
            "score a view with larger pictures (--view)"
        )
    totals: NDArray[np.float64] = np.zeros((len(fixed_u8), len(lefts)))
    for rows in _bands(high):
        moved = _sum_windows(moved_u8[rows])
        fixed = (_sum_windows(picture[rows]) for picture in fixed_u8)
        totals += [[_compare(band, moved.part(left, wide)) for left in lefts] for band in fixed]
    return np.asarray(totals / (3 * (high - SIDE + 1) * (wide - SIDE + 1)), np.float64)


def _bands(high: int) -> Iterator[slice]:
    """The rows of each band; two neighbours share the rows that their windows share."""
    windows = high - SIDE + 1
    return (slice(top, min(top + ROWS, windows) + SIDE - 1) for top in range(0, windows, ROWS))


def _sum_windows(pixels: PictureU8) -> Band:
    sums = _inside(cv2.boxFilter(pixels, cv2.CV_32S, (SIDE, SIDE), normalize=False))
    of_squares = _inside(cv2.sqrBoxFilter(pixels, cv2.CV_32S, (SIDE, SIDE), normalize=False))
    squares = sums * sums
    return Band(pixels=pixels, sums=sums, squares=squares, variances=AREA * of_squares - squares)


def _compare(one: Band, two: Band) -> float:
    """The sum of SSIM over all windows and channels of two bands.

    Half of both factors of the numerator is computed: one multiplication less for each window.
    """
    products = one.sums * two.sums
    crossed = cv2.multiply(one.pixels, two.pixels, dtype=cv2.CV_16U)  # at most 255², which fits
    covariances = AREA * _inside(cv2.boxFilter(crossed, cv2.CV_32S, (SIDE, SIDE), normalize=False))
    covariances -= products
    above = products + C1 / 2
    above *= covariances + C2 / 2
    below = one.squares + two.squares + C1
    below *= one.variances + two.variances + C2
    above /= below
    return 4 * float(above.sum())


def _inside(of_pixels: cv2.typing.MatLike) -> Integers:
    """What belongs to the windows that lie inside, of one number per pixel around which a window lies."""
    margin = SIDE // 2
    return np.asarray(of_pixels[margin:-margin, margin:-margin], np.int32)
