"""SSIM, PSNR and DAB, picture by picture: the numbers that need no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evaluate.inputs.image_set import REAL, ImageSet, SetName
from evaluate.inputs.reading import THREADS, in_threads
from evaluate.metrics.dab import DabStats, dab_stats
from evaluate.metrics.paired import psnr, ssim
from evaluate.protocol import PROTOCOLS, Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScores:
    """One place of the store: SSIM and PSNR (dB) of every row against its protocol's real picture, and DAB.

    DAB is that of the real picture and of the rows of `corrected`: pictures as they are, not truncated or saved again.
    """

    ssim: Mapping[SetName, float]
    psnr: Mapping[SetName, float]
    dab: Mapping[SetName, DabStats]


def score_images(images: ImageSet, threads: int = THREADS) -> list[ImageScores]:
    """Every place, in the order of the store whatever the number of threads."""
    return in_threads(lambda place: score_place(images, place), range(len(images)), "SSIM, PSNR, DAB", threads)


def score_place(images: ImageSet, place: int) -> ImageScores:
    """All numbers of one place; each picture is read once."""
    pictures = {name: read(place) for name, read in images.reads.items()}
    real = {(protocol, row): pictures[protocol, REAL] for protocol, row in images.rows}
    return ImageScores(
        ssim={name: ssim(pictures[name], real[name]) for name in images.rows},
        psnr={name: psnr(pictures[name], real[name]) for name in images.rows},
        dab={
            name: dab_stats(picture)
            for name, picture in pictures.items()
            if PROTOCOLS[name[0]].reference is Reference.STORED
        },
    )
