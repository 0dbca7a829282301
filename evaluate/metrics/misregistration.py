"""What a misregistration does to paired metrics: the real picture is moved aside, and everything is measured again.

Pictures are u8 [H,W,3] RGB, shifts px. A reader sees from it what a difference of 0.01 SSIM is worth: sections of one
block lie some 5 to 10 px apart in the public data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate.columns import Metric
from evaluate.features.extract import to_unit
from evaluate.features.lpips import Perceptual, Trunk
from evaluate.features.networks import Pooled
from evaluate.metrics.paired import phv, psnr, ssim
from evaluate.protocol import THRESHOLD
from store.images import PictureU8

SHIFTS = (0, 1, 2, 4, 8, 16, 32, 48)  # px
SHOWN = 8  # pictures, at equally spaced ranks of the real DAB
METRICS = {Trunk.ALEX: Metric.LPIPS_ALEX, Trunk.VGG: Metric.LPIPS_VGG}


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """A picture and what the networks made of it: PHV's means by layer, LPIPS' taps by trunk."""

    picture: PictureU8
    means: tuple[NDArray[np.floating], ...]
    taps: Mapping[Trunk, tuple[torch.Tensor, ...]]


def shifts_for(side: int) -> tuple[int, ...]:
    """The shifts that leave at least half of a picture."""
    return tuple(shift for shift in SHIFTS if shift <= side // 2)


def windows(picture_u8: PictureU8, shifts: Sequence[int]) -> Iterator[PictureU8]:
    """The part of a picture that every shift leaves, once for each shift of the picture to the right."""
    most, wide = max(shifts), picture_u8.shape[1]
    for shift in shifts:
        yield np.ascontiguousarray(picture_u8[:, most - shift : wide - shift])


def measure(
    pairs: Sequence[tuple[PictureU8, PictureU8]],
    shifts: Sequence[int],
    pooled: Pooled | None,
    trunks: Mapping[Trunk, Perceptual],
    device: torch.device,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over pairs of translated and real pictures, [shift,metric]: of the real pictures themselves, of the others.

    Metrics are SSIM, PSNR, then PHV and LPIPS of each trunk where their networks are given.
    """

    def look(picture_u8: PictureU8) -> Looks:
        unit = to_unit([picture_u8], device)
        means = tuple(mean.cpu().numpy() for mean in pooled(unit)) if pooled else ()
        return Looks(picture=picture_u8, means=means, taps={trunk: one.taps(unit) for trunk, one in trunks.items()})

    def differences(one: Looks, two: Looks) -> list[float]:
        found = [ssim(one.picture, two.picture), psnr(one.picture, two.picture)]
        found += [float(phv(one.means, two.means, THRESHOLD).mean())] if one.means else []
        return found + [float(net.distance(one.taps[trunk], two.taps[trunk])[0]) for trunk, net in trunks.items()]

    perfect, translated = [], []
    for fake, real in pairs:
        stands = [look(next(windows(picture, shifts))) for picture in (real, fake)]
        for window in windows(real, shifts):
            moved = look(window)
            perfect.append(differences(stands[0], moved))
            translated.append(differences(stands[1], moved))
    of_perfect, of_translated = (
        np.array(found).reshape(len(pairs), len(shifts), -1).mean(axis=0) for found in (perfect, translated)
    )
    return of_perfect, of_translated
