"""From numbers of pictures to the cells of a row: means, distances of sets, agreement on DAB, with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from evaluate.columns import MISSING, Agreement, Cell, Metric
from evaluate.metrics.dab import ZOOMS, Parts, relative_error
from evaluate.metrics.fid_kid import DIMENSIONS, Products, fid, kid
from evaluate.metrics.statistics import (
    COSTLY_RESAMPLES,
    Counts,
    Interval,
    interval,
    mean_interval,
    pearson,
    resample,
    spearman,
)
from evaluate.protocol import ALL, Protocol, Root

PHV_LAYERS = (Metric.PHV1, Metric.PHV2, Metric.PHV3, Metric.PHV4)
PER_PICTURE = (Metric.SSIM, Metric.PSNR, *PHV_LAYERS, Metric.PHV, Metric.LPIPS_ALEX, Metric.LPIPS_VGG)
Features = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """The slides drawn again and again: for means, and fewer for what takes long."""

    cheap: Sequence[Counts]
    costly: Sequence[Counts]

    @classmethod
    def of(cls, slides: Sequence[str]) -> Draws:
        """For pictures of these slides."""
        return cls(cheap=resample(slides), costly=resample(slides, COSTLY_RESAMPLES))


def mean_cells(values: Mapping[Metric, Sequence[float]], draws: Draws) -> dict[Metric, Cell]:
    """The mean over pictures of each paired metric; what has no numbers lacks its network."""
    return {
        metric: _cell(float(np.mean(values[metric])), mean_interval(values[metric], draws.cheap))
        if metric in values
        else Cell(note=MISSING)
        for metric in PER_PICTURE
    }


def fid_cell(fake: Features, real: Features, protocol: Protocol, draws: Draws) -> Cell:
    """FID as the protocol has it; the width of its interval by singular values, about the number itself."""
    products = Products.of(fake, real)
    ones = np.ones(len(fake), dtype=np.int64)
    value = fid(fake, real) if protocol.fid_root is Root.SQRTM else products.fid(ones)
    within = interval(value, products.fid, draws.costly, centred=True)
    few = f"FID of {len(fake)} pictures, fewer than {DIMENSIONS}, is biased upward: compare at equal N, and see KID"
    return _cell(value, within, few if len(fake) < DIMENSIONS else "")


def kid_cell(fake: Features, real: Features, protocol: Protocol, draws: Draws) -> Cell:
    """KID times the protocol's scale: of all pictures, or the mean and deviation of drawn subsets."""
    products, spread, note = Products.of(fake, real), nan, ""
    if protocol.kid_subset == ALL:
        value = products.kid(np.ones(len(fake), dtype=np.int64))
    else:
        drawn = kid(fake, real, np.random.RandomState(protocol.kid_seed), protocol.kid_subset)
        value, spread = float(drawn.mean()), float(drawn.std())
        if len(fake) <= protocol.kid_subset:
            note = f"KID's {len(drawn)} subsets are all the same {len(fake)} pictures: ± 0 is no deviation"
    within = interval(value, products.kid, draws.costly)
    scale = protocol.kid_scale
    scaled = Interval(low=scale * within.low, high=scale * within.high, absent=within.absent)
    return _cell(scale * value, scaled, note, spread=scale * spread)


def agreement_cells(fake: Sequence[Parts], real: Sequence[Parts], draws: Draws) -> dict[str, dict[Agreement, Cell]]:
    """Agreement on DAB at each zoom: of whole pictures (x1), of their quarters (x2), of their sixteenths (x4)."""
    return {f"x{zoom}": _agreement(fake, real, zoom, draws) for zoom in ZOOMS}


def _agreement(fake: Sequence[Parts], real: Sequence[Parts], zoom: int, draws: Draws) -> dict[Agreement, Cell]:
    """Correlations over all parts; errors are means over the parts of a picture, then over pictures."""
    one, two = (np.stack([picture.density[zoom] for picture in side]) for side in (fake, real))  # [N, zoom²]
    positive = [np.stack([picture.positive[zoom] for picture in side]) for side in (fake, real)]
    relative = np.array([relative_error(*both) for both in zip(one.tolist(), two.tolist(), strict=True)])
    errors = {
        Agreement.ERROR: np.abs(one - two).mean(axis=1),
        Agreement.RELATIVE: relative.mean(axis=1),
        Agreement.POSITIVE: np.abs(positive[0] - positive[1]).mean(axis=1),
    }
    cells = {
        Agreement.SPEARMAN: _correlation(spearman, one, two, draws),
        Agreement.PEARSON: _correlation(pearson, one, two, draws),
    }
    return cells | {
        name: _cell(float(values.mean()), mean_interval(values.tolist(), draws.cheap))
        for name, values in errors.items()
    }


def _correlation(
    correlate: Callable[[Sequence[float], Sequence[float]], float],
    fake: NDArray[np.float64],
    real: NDArray[np.float64],
    draws: Draws,
) -> Cell:
    """The correlation over all parts of all pictures, [N, parts] each."""

    def among(counts: Counts) -> float:
        one, two = (np.repeat(side, counts, axis=0).ravel().tolist() for side in (real, fake))
        return correlate(one, two)

    estimate = among(np.ones(len(fake), dtype=np.int64))
    return _cell(estimate, interval(estimate, among, draws.costly))


def _cell(value: float, within: Interval, note: str = "", spread: float = nan) -> Cell:
    notes = "; ".join(text for text in (note, f"no interval: {within.absent}" if within.absent else "") if text)
    return Cell(value=value, low=within.low, high=within.high, spread=spread, note=notes)
