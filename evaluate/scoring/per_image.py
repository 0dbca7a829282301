"""Paired metrics and DAB, picture by picture: those of a run, beside the standing ones of the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evaluate.columns import PHV_LAYERS, Metric
from evaluate.features.extract import Features
from evaluate.features.lpips import TRUNK_METRIC
from evaluate.inputs.image_set import REAL, ImageSet, SetName
from evaluate.metrics.dab import DabStats
from evaluate.metrics.paired import phv
from evaluate.metrics.pictures import Measurement
from evaluate.metrics.standing import Standing
from evaluate.parallel import in_parallel
from evaluate.protocol import FAKE, PROTOCOLS


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScores:
    """One place of the store: the paired metrics of every row against its protocol's real picture, and DAB.

    Metrics are SSIM, PSNR in dB, and PHV and LPIPS where their weights are here. DAB is that of the real picture and of
    the rows of `corrected`: of pictures as they are, not truncated or saved again.
    """

    metrics: Mapping[SetName, Mapping[Metric, float]]
    dab: Mapping[SetName, DabStats]


def score_images(images: ImageSet, standing: Standing, features: Features, workers: int = 1) -> list[ImageScores]:
    """Every place, in the order of the store whatever the number of processes; baselines are not measured again."""
    names = [(protocol, FAKE) for protocol in PROTOCOLS]
    needed = {name: read for name, read in images.reads.items() if name[1] in (REAL, FAKE)}
    work = Measurement(reads=needed, names=names)
    own = in_parallel(work, range(len(images)), "scoring", workers, images.side**2)
    return [
        ImageScores(
            metrics={
                name: (known.metrics | one.metrics)[name] | score_features(features, name, place)
                for name in images.rows
            },
            dab=known.dab | one.dab,
        )
        for place, (known, one) in enumerate(zip(standing.places, own, strict=True))
    ]


def score_features(features: Features, name: SetName, place: int) -> dict[Metric, float]:
    """PHV and LPIPS of the picture of a row, where their weights are here."""
    protocol, real = PROTOCOLS[name[0]], (name[0], REAL)
    found: dict[Metric, float] = {}
    if protocol.phv in features.vectors:
        fake_means, real_means = (
            [stage[place : place + 1] for stage in features.vectors[protocol.phv][one]] for one in (name, real)
        )
        layers = phv(fake_means, real_means, protocol.phv_threshold)  # [1,4]
        found |= dict(zip(PHV_LAYERS, layers[0].tolist(), strict=True)) | {Metric.PHV: float(layers.mean())}
    return found | {TRUNK_METRIC[trunk]: float(lpips[name][place]) for trunk, lpips in features.lpips.items()}
