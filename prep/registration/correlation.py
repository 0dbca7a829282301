"""Correlation of two maps over all shifts, through their spectra, and its peaks. Lengths are px of the maps.

Source of phase correlation: Kuglin & Hines 1975. Two stains differ in contrast at every frequency, and serial sections
share only coarse structure, so the amplitudes are flattened in part (`whitening`), within a band of frequencies.
Numbers have double precision: a store keeps what comes of them, in whole px and per cent, so that a machine that rounds
the last digit in another way must not change it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import maximum_filter

from prep.registration.density import DensityMap

Surface = NDArray[np.float64]  # [2R+1,2R+1], of the shifts -R to R down and right
FLAT = 1e-5  # optical density: maps that vary less are of one colour
LOW = 1e-6  # of the highest amplitude: a lower one is not made equal to the others
TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The frequencies that count: those that a Gaussian of deviation `fine` px leaves and one of `coarse` px removes.

    `whitening` is how far amplitudes are made equal: 0 is plain correlation, 1 phase correlation.
    """

    fine: float
    coarse: float
    whitening: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The highest place of a surface, to fractions of a px, and by how many deviations it leads the next one."""

    down: float
    right: float
    lead: float


def correlate(first: DensityMap, second: DensityMap, band: Band, reach: int) -> Surface:
    """How well `second`, moved back by each shift of at most `reach` px, agrees with `first`; mean 0, deviation 1.

    first, second: [H,W]. All zeros if one of them is flat.
    """
    if min(float(one.std()) for one in (first, second)) < FLAT:
        return np.zeros((2 * reach + 1, 2 * reach + 1))
    window = np.outer(*(np.hanning(length + 2)[1:-1] for length in first.shape))
    shape = tuple(fft.next_fast_len(length, real=True) for length in first.shape)
    spectra = [fft.rfft2((one - np.vdot(one, window) / window.sum()) * window, s=shape) for one in (first, second)]
    cross = spectra[1] * np.conj(spectra[0])
    amplitude = np.abs(cross)
    cross *= _weights(shape, band) / (amplitude + LOW * amplitude.max()) ** band.whitening
    shifts = np.arange(-reach, reach + 1)
    surface = fft.irfft2(cross, s=shape)[np.ix_(shifts, shifts)]
    return np.asarray((surface - surface.mean()) / max(float(surface.std()), TINY))


def find_peak(surface: Surface, apart: int) -> Peak:
    """The highest place, of a flat surface the middle; other peaks count from `apart` px away."""
    if not surface.any():
        return Peak(down=0, right=0, lead=0)
    reach = surface.shape[0] // 2
    row, column = divmod(int(surface.argmax()), surface.shape[1])
    peaks = surface == maximum_filter(surface, 2 * apart + 1)
    peaks[max(row - apart, 0) : row + apart + 1, max(column - apart, 0) : column + apart + 1] = False
    next_one = surface[peaks].max(initial=float(surface.mean()))
    return Peak(
        down=row - reach + _vertex(surface[:, column], row),
        right=column - reach + _vertex(surface[row], column),
        lead=float(surface[row, column] - next_one) / max(float(surface.std()), TINY),
    )


def _vertex(line: Surface, place: int) -> float:
    """Where the parabola through a maximum and its two neighbours is highest, px from the maximum."""
    if not 0 < place < len(line) - 1:
        return 0.0
    before, here, after = (float(value) for value in line[place - 1 : place + 2])
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def _weights(shape: tuple[int, ...], band: Band) -> NDArray[np.float64]:
    """The weight of each frequency of a real spectrum [H,W//2+1]: both maps are filtered, so the filter is squared."""
    squares = fft.fftfreq(shape[0]) ** 2, fft.rfftfreq(shape[1]) ** 2
    blurs = [-2 * (np.pi * deviation) ** 2 for deviation in (band.fine, band.coarse)]
    fine, coarse = (np.outer(*(np.exp(blur * axis) for axis in squares)) for blur in blurs)
    return np.asarray((fine - coarse) ** 2)
