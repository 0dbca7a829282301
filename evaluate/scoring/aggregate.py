"""From numbers of pictures to the cells of rows: means, FID, KID and agreement on DAB, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from evaluate.columns import MISSING, Agreement, Cell, Metric
from evaluate.features.extract import Features
from evaluate.features.lpips import TRUNK_METRIC
from evaluate.inputs.image_set import REAL, ImageSet, SetName
from evaluate.metrics.dab import ZOOMS, DabStats, relative_error
from evaluate.metrics.fid_kid import DIMENSIONS, Products, Vectors, fid, kid
from evaluate.metrics.paired import phv
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
from evaluate.protocol import ALL, PROTOCOLS, Protocol, ProtocolName, Root
from evaluate.scores_file import Row, Values
from evaluate.scoring.per_image import ImageScores

PHV_LAYERS = (Metric.PHV1, Metric.PHV2, Metric.PHV3, Metric.PHV4)
PER_PICTURE = (Metric.SSIM, Metric.PSNR, *PHV_LAYERS, Metric.PHV, Metric.LPIPS_ALEX, Metric.LPIPS_VGG)
ALONE = "a distance of two sets needs at least 2 pictures"


def compute_rows(
    images: ImageSet, scores: Sequence[ImageScores], features: Features
) -> dict[ProtocolName, dict[str, Row]]:
    """Every row of both protocols, with intervals from bootstrap samples of the slides."""
    samples = resample([target.slide for target in images.targets])
    rows: dict[ProtocolName, dict[str, Row]] = {name: {} for name in PROTOCOLS}
    for protocol, row in images.rows:
        rows[protocol][row] = _row((protocol, row), scores, features, samples)
    return rows


def _row(name: SetName, scores: Sequence[ImageScores], features: Features, samples: Sequence[Counts]) -> Row:
    real = (name[0], REAL)
    values = _paired_values(name, scores, features)
    dab = [place.dab[name] for place in scores if name in place.dab]
    return Row(
        cells=mean_cells(values, samples) | _distance_cells(name, features, samples),
        agreement=agreement_cells(dab, [place.dab[real] for place in scores], samples) if dab else {},
        values=Values(
            metrics=values,
            density=tuple(one.density for one in dab),
            integrated=tuple(one.integrated for one in dab),
            positive=tuple(one.positive for one in dab),
        ),
    )


def _paired_values(name: SetName, scores: Sequence[ImageScores], features: Features) -> dict[Metric, tuple[float, ...]]:
    """One number per picture of every paired metric whose network is here."""
    protocol, real = PROTOCOLS[name[0]], (name[0], REAL)
    values = {
        Metric.SSIM: tuple(place.ssim[name] for place in scores),
        Metric.PSNR: tuple(place.psnr[name] for place in scores),
    }
    if protocol.phv in features.vectors:
        vectors = features.vectors[protocol.phv]
        layers = phv(vectors[name], vectors[real], protocol.phv_threshold)  # [N,4]
        values |= dict(zip(PHV_LAYERS, (tuple(layer) for layer in layers.T.tolist()), strict=True))
        values[Metric.PHV] = tuple(layers.mean(axis=1).tolist())
    return values | {TRUNK_METRIC[trunk]: tuple(found[name].tolist()) for trunk, found in features.lpips.items()}


def _distance_cells(name: SetName, features: Features, samples: Sequence[Counts]) -> dict[Metric, Cell]:
    """FID and KID of a row, from the last stage of their feature specs."""
    protocol, real = PROTOCOLS[name[0]], (name[0], REAL)
    cells = {}
    for metric, spec, cell in ((Metric.FID, protocol.fid, fid_cell), (Metric.KID, protocol.kid, kid_cell)):
        cells[metric] = Cell(note=MISSING)
        if spec in features.vectors:
            fake_vectors, real_vectors = features.vectors[spec][name][-1], features.vectors[spec][real][-1]
            several = len(real_vectors) > 1
            cells[metric] = cell(fake_vectors, real_vectors, protocol, samples) if several else Cell(note=ALONE)
    return cells


def mean_cells(values: Mapping[Metric, Sequence[float]], samples: Sequence[Counts]) -> dict[Metric, Cell]:
    """The mean over pictures of each paired metric; a metric without numbers lacks the weights of its network."""
    return {
        metric: _cell(float(np.mean(values[metric])), mean_interval(values[metric], samples))
        if metric in values
        else Cell(note=MISSING)
        for metric in PER_PICTURE
    }


def fid_cell(fake: Vectors, real: Vectors, protocol: Protocol, samples: Sequence[Counts]) -> Cell:
    """FID as the protocol has it; its interval has the width by singular values, centred on the number."""
    products = Products.of(fake, real)
    ones = np.ones(len(fake), dtype=np.int64)
    value = fid(fake, real) if protocol.fid_root is Root.SQRTM else products.fid(ones)
    within = interval(value, products.fid, samples[:COSTLY_RESAMPLES], centred=True)
    few = f"FID of {len(fake)} pictures, fewer than {DIMENSIONS}, is biased upward: compare at equal N, and see KID"
    return _cell(value, within, few if len(fake) < DIMENSIONS else "")


def kid_cell(fake: Vectors, real: Vectors, protocol: Protocol, samples: Sequence[Counts]) -> Cell:
    """KID times the protocol's scale: of all pictures, or mean and standard deviation of random subsets."""
    products, spread, note = Products.of(fake, real), nan, ""
    if protocol.kid_subset == ALL:
        value = products.kid(np.ones(len(fake), dtype=np.int64))
    else:
        generator = np.random.RandomState(protocol.kid_seed)
        subsets = kid(fake, real, generator, subsets=protocol.kid_subsets, subset=protocol.kid_subset)
        value, spread = float(subsets.mean()), float(subsets.std())
        if len(fake) <= protocol.kid_subset:
            note = f"KID's {len(subsets)} subsets are all the same {len(fake)} pictures: ± 0 is not a deviation"
    within = interval(value, products.kid, samples[:COSTLY_RESAMPLES])
    scale = protocol.kid_scale
    scaled = Interval(low=scale * within.low, high=scale * within.high, absent=within.absent)
    return _cell(scale * value, scaled, note, spread=scale * spread)


def agreement_cells(
    fake: Sequence[DabStats], real: Sequence[DabStats], samples: Sequence[Counts]
) -> dict[str, dict[Agreement, Cell]]:
    """Agreement on DAB at each zoom: of whole pictures (x1), of their quarters (x2), of their sixteenths (x4)."""
    return {f"x{zoom}": _agreement(fake, real, zoom, samples) for zoom in ZOOMS}


def _agreement(
    fake: Sequence[DabStats], real: Sequence[DabStats], zoom: int, samples: Sequence[Counts]
) -> dict[Agreement, Cell]:
    """Correlations over all parts; errors are means over the parts of a picture, then over pictures."""
    one, two = (np.stack([picture.part_density[zoom] for picture in side]) for side in (fake, real))  # [N, zoom²]
    positive = [np.stack([picture.part_positive[zoom] for picture in side]) for side in (fake, real)]
    relative = np.array([relative_error(*both) for both in zip(one.tolist(), two.tolist(), strict=True)])
    errors = {
        Agreement.ERROR: np.abs(one - two).mean(axis=1),
        Agreement.RELATIVE: relative.mean(axis=1),
        Agreement.POSITIVE: np.abs(positive[0] - positive[1]).mean(axis=1),
    }
    cells = {
        Agreement.SPEARMAN: _correlation(spearman, one, two, samples),
        Agreement.PEARSON: _correlation(pearson, one, two, samples),
    }
    return cells | {
        name: _cell(float(values.mean()), mean_interval(values.tolist(), samples)) for name, values in errors.items()
    }


def _correlation(
    correlate: Callable[[Sequence[float], Sequence[float]], float],
    fake: NDArray[np.float64],
    real: NDArray[np.float64],
    samples: Sequence[Counts],
) -> Cell:
    """The correlation over all parts of all pictures, [N, parts] each."""

    def among(counts: Counts) -> float:
        one, two = (np.repeat(side, counts, axis=0).ravel().tolist() for side in (real, fake))
        return correlate(one, two)

    estimate = among(np.ones(len(fake), dtype=np.int64))
    return _cell(estimate, interval(estimate, among, samples[:COSTLY_RESAMPLES]))


def _cell(value: float, within: Interval, note: str = "", spread: float = nan) -> Cell:
    notes = "; ".join(text for text in (note, f"no interval: {within.absent}" if within.absent else "") if text)
    return Cell(value=value, low=within.low, high=within.high, spread=spread, note=notes)
