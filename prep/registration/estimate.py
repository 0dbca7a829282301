"""Estimate how far the IHC of a pair is shifted against its H&E, and how far the estimate can be trusted.

Where the two pictures belong is found on at most 256 px, where glands and borders of tissue decide, which serial
sections share; larger pictures are then compared on at most 512 px near that place. Whole shifts only: no rotation, no
deformation. Lengths are px of the reduced pictures unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, hypot

import cv2
import numpy as np

from prep.registration.correlation import Band, Peak, Surface, correlate, find_peak
from prep.registration.density import DensityMap, densities
from prep.registration.matching import common_parts
from store.images import PictureU8
from store.pairs.table import Registration

COARSE_SIDE, FINE_SIDE = 256, 512  # the longer side of the reduced pictures
COARSE = Band(fine=3, coarse=64, whitening=0.3)  # of the bands tried, most landmarks within 10 px: prep/README.md
FINE = Band(fine=2, coarse=32, whitening=0.1)  # tissue may be smooth: equal amplitudes would weigh its noise
REACH = 4  # one part in so many of a side is the largest shift that is looked for
NEAR = 2  # by which the fine estimate may differ from the coarse one
APART = 7  # between peaks that are two
SMOOTH, LOCAL = 3, 49  # deviation of a Gaussian and side of a mean, between which two pictures are compared
GRAIN = 0.005  # optical density: structure below this is noise of the camera and of compression
PARTS = 2  # in each direction, that are compared by themselves

# Confidence is the logistic function of the sum, fitted to pairs with known shifts, landmarks, and pairs that do not
# belong together: how probable it is that the estimate is within 10 px of 256: prep/README.md
CONSTANT, OF_LEAD, OF_LIKENESS, OF_DISAGREEMENT = -3.4, 1.45, 20.0, -5.0
ALIKE = 0.15  # more likeness says no more about the place: a straight border of tissue is like itself all along it

Maps = tuple[tuple[DensityMap, DensityMap], ...]  # H&E and IHC, for each density


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What speaks for an estimate.

    `lead`: how far the peak is above the next one, in deviations. `likeness`: correlation of what overlaps, -1 to 1.
    `disagreement`: of the quarters of the overlap, as a share of the distance in which they were compared.
    """

    lead: float
    likeness: float
    disagreement: float

    @property
    def percent(self) -> int:
        """Confidence in per cent."""
        likeness = OF_LIKENESS * min(self.likeness, ALIKE)
        total = CONSTANT + OF_LEAD * self.lead + likeness + OF_DISAGREEMENT * self.disagreement
        return round(100 / (1 + exp(-total)))


def register(he: PictureU8, ihc: PictureU8) -> Registration:
    """Where the IHC shows what the H&E shows, of two pictures u8 [H,W,3] RGB of one size.

    Shifts of up to a quarter of the shorter side are found, whole px of the pictures. The same on any machine.
    """
    coarse, fine = (_maps(he, ihc, side) for side in (COARSE_SIDE, FINE_SIDE))
    peak = find_peak(_surface(coarse, COARSE, min(coarse[0][0].shape) // REACH), APART)
    down, right = _refine(fine, peak, len(fine[0][0]) / len(coarse[0][0]))
    scale = len(he) / len(fine[0][0])
    return Registration(down=round(scale * down), right=round(scale * right), percent=weigh(coarse, peak).percent)


def weigh(maps: Maps, peak: Peak) -> Evidence:
    """The evidence for a peak of these maps."""
    common = _overlap(maps, round(peak.down), round(peak.right))
    height, width = (length // PARTS for length in common[0][0].shape)
    reach = min(height, width) // 3
    there = [
        find_peak(_surface(_part(common, row * height, column * width, height, width), COARSE, reach), APART)
        for row in range(PARTS)
        for column in range(PARTS)
    ]
    return Evidence(
        lead=peak.lead,
        likeness=float(np.mean([_likeness(he, ihc) for he, ihc in common])),
        disagreement=float(np.median([hypot(one.down, one.right) for one in there])) / reach,
    )


def _refine(maps: Maps, peak: Peak, scale: float) -> tuple[float, float]:
    """The shift in px of maps that are `scale` times as large as those of the peak."""
    down, right = scale * peak.down, scale * peak.right
    if scale == 1:
        return down, right
    near = find_peak(_surface(_overlap(maps, round(down), round(right)), FINE, NEAR), APART)
    return round(down) + near.down, round(right) + near.right


def _maps(he: PictureU8, ihc: PictureU8, side: int) -> Maps:
    return tuple(zip(densities(_reduce(he, side)), densities(_reduce(ihc, side)), strict=True))


def _reduce(picture: PictureU8, side: int) -> PictureU8:
    """The picture with at most `side` px along its longer side, by the mean over areas."""
    height, width = picture.shape[:2]
    if (longer := max(height, width)) <= side:
        return picture
    size = round(width * side / longer), round(height * side / longer)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _surface(maps: Maps, band: Band, reach: int) -> Surface:
    """The sum over densities."""
    return np.asarray(sum(correlate(he, ihc, band, reach) for he, ihc in maps))


def _overlap(maps: Maps, down: int, right: int) -> Maps:
    """The parts of the maps that show the same place under a shift."""
    height, width = maps[0][0].shape
    rows, columns = common_parts(height, down), common_parts(width, right)
    return tuple((he[rows[0], columns[0]], ihc[rows[1], columns[1]]) for he, ihc in maps)


def _part(maps: Maps, top: int, left: int, height: int, width: int) -> Maps:
    window = np.s_[top : top + height, left : left + width]
    return tuple((he[window], ihc[window]) for he, ihc in maps)


def _likeness(he: DensityMap, ihc: DensityMap) -> float:
    """The correlation coefficient of the two maps without what is fine or coarse; grain counts as a difference."""
    first, second = (cv2.GaussianBlur(one, (0, 0), SMOOTH) - cv2.blur(one, (LOCAL, LOCAL)) for one in (he, ihc))
    covariance = float(np.mean((first - first.mean()) * (second - second.mean())))
    return covariance / hypot(float(first.std()), GRAIN) / hypot(float(second.std()), GRAIN)
