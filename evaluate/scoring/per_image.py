"""Paired metrics and DAB, picture by picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evaluate.columns import PHV_LAYERS, Metric
from evaluate.features.extract import Features
from evaluate.features.lpips import TRUNK_METRIC
from evaluate.inputs.image_set import REAL, ImageSet, SetName
from evaluate.inputs.reading import THREADS, in_threads
from evaluate.metrics.dab import DabStats, dab_stats
from evaluate.metrics.paired import phv, psnr, ssim
from evaluate.protocol import PROTOCOLS, Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScores:
    """One place of the store: the paired metrics of every row against its protocol's real picture, and DAB.

    Metrics are SSIM, PSNR in dB, and PHV and LPIPS where their weights are here. DAB is that of the real picture and of
    the rows of `corrected`: of pictures as they are, not truncated or saved again.
    """

    metrics: Mapping[SetName, Mapping[Metric, float]]
    dab: Mapping[SetName, DabStats]


def score_images(images: ImageSet, features: Features, threads: int = THREADS) -> list[ImageScores]:
    """Every place, in the order of the store whatever the number of threads."""
    places = range(len(images))
    return in_threads(lambda place: score_place(images, features, place), places, "scoring", threads)


def score_place(images: ImageSet, features: Features, place: int) -> ImageScores:
    """All numbers of one place; each picture is read once."""
    pictures = {name: read(place) for name, read in images.reads.items()}
    metrics: dict[SetName, dict[Metric, float]] = {}
    for name in images.rows:
        protocol, real = PROTOCOLS[name[0]], (name[0], REAL)
        found = {Metric.SSIM: ssim(pictures[name], pictures[real]), Metric.PSNR: psnr(pictures[name], pictures[real])}
        if protocol.phv in features.vectors:
            fake_means, real_means = (
                [stage[place : place + 1] for stage in features.vectors[protocol.phv][one]] for one in (name, real)
            )
            layers = phv(fake_means, real_means, protocol.phv_threshold)  # [1,4]
            found |= dict(zip(PHV_LAYERS, layers[0].tolist(), strict=True)) | {Metric.PHV: float(layers.mean())}
        found |= {TRUNK_METRIC[trunk]: float(lpips[name][place]) for trunk, lpips in features.lpips.items()}
        metrics[name] = found
    stored = [name for name in pictures if PROTOCOLS[name[0]].reference is Reference.STORED]
    return ImageScores(metrics=metrics, dab={name: dab_stats(pictures[name]) for name in stored})
