"""What is measured on pixels alone, picture by picture: paired metrics and DAB.

A process that does this needs no network library, so it starts in a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluate.columns import Metric
from evaluate.inputs.image_set import REAL, SetName
from evaluate.inputs.reading import Read, digest_pixels
from evaluate.metrics.dab import DabStats, dab_stats
from evaluate.metrics.paired import psnr
from evaluate.metrics.ssim import similarities
from evaluate.protocol import PROTOCOLS, ProtocolName, Reference
from store.images import PictureU8


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureScores:
    """One place of the store: the paired metrics of rows against their protocol's real picture, and DAB of sets.

    DAB is of the sets of `corrected` only: of pictures as they are, not truncated or saved again. `digests` are the
    sha256 of the pixels of all sets that were measured.
    """

    metrics: dict[SetName, dict[Metric, float]]
    dab: dict[SetName, DabStats]
    digests: dict[SetName, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What to measure: these sets, against the real pictures, which are among `reads`."""

    reads: Mapping[SetName, Read]
    names: Sequence[SetName]

    def __call__(self, place: int) -> PictureScores:
        """All numbers of one place; each picture is read once."""
        metrics: dict[SetName, dict[Metric, float]] = {}
        dab: dict[SetName, DabStats] = {}
        digests: dict[SetName, str] = {}
        for protocol in PROTOCOLS:
            names = [name for name in self.names if name[0] == protocol]
            if not names:
                continue
            pictures = {name: self.reads[name](place) for name in dict.fromkeys([(protocol, REAL), *names])}
            rows = [name for name in names if name[1] != REAL]
            found = measure_pairs([pictures[row] for row in rows], pictures[protocol, REAL])
            metrics |= dict(zip(rows, found, strict=True))
            dab |= {name: dab_stats(pictures[name]) for name in names if has_dab(protocol)}
            digests |= {name: digest_pixels(pictures[name]) for name in names}
        return PictureScores(metrics=metrics, dab=dab, digests=digests)


def measure_pairs(fakes_u8: Sequence[PictureU8], real_u8: PictureU8) -> list[dict[Metric, float]]:
    """SSIM and PSNR in dB of each picture and the real one, u8 [H,W,3]."""
    return [
        {Metric.SSIM: likeness, Metric.PSNR: psnr(fake_u8, real_u8)}
        for fake_u8, likeness in zip(fakes_u8, similarities(fakes_u8, real_u8), strict=True)
    ]


def has_dab(protocol: ProtocolName) -> bool:
    """Whether DAB is measured under a protocol: where real pictures are as they are in the store."""
    return PROTOCOLS[protocol].reference is Reference.STORED
