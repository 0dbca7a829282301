"""The effect of misregistration on paired metrics: the real picture is shifted, and everything is measured again.

Pictures are u8 [H,W,3] RGB, shifts px. The curve shows what a difference of 0.01 SSIM is worth: the sections of one
block are some 5 to 10 px apart in the public data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from evaluate.columns import Metric
from evaluate.features.cache import Arrays, cached, features_key
from evaluate.features.extract import FeatureSource, to_unit
from evaluate.features.lpips import TRUNK_METRIC, Perceptual, Trunk
from evaluate.features.networks import Pooled
from evaluate.inputs.image_set import REAL, ImageSet
from evaluate.metrics.paired import phv, psnr
from evaluate.metrics.ssim import SIDE, shifted_similarities
from evaluate.parallel import in_threads
from evaluate.protocol import FAKE, THRESHOLD, FeatureSpec, ProtocolName
from evaluate.scores_file import Misregistration
from store.cli import track
from store.images import PictureU8

SHIFTS = (0, 1, 2, 4, 8, 16, 32, 48)  # px
SHOWN = 8  # pictures, at equally spaced ranks of the real DAB
TRANSLATED, REFERENCE = (ProtocolName.CORRECTED, FAKE), (ProtocolName.CORRECTED, REAL)
Curves = dict[Metric, NDArray[np.float64]]  # of each metric [2, shift]: the real picture itself, then the translation


def misregister(images: ImageSet, places: Sequence[int], source: FeatureSource) -> Misregistration:
    """The curves over the pictures at `places`: SSIM and PSNR, and PHV and LPIPS where their weights are here.

    What was measured before is in the cache.
    """
    shifts, metrics = shifts_for(images.side), _metrics(source)

    def measure_missing(names: list[str]) -> dict[str, Arrays]:
        means = measure_all(images, places, shifts, source)
        sides = tuple(np.stack([means[metric][side] for metric in metrics], axis=1) for side in (0, 1))
        return dict.fromkeys(names, sides)  # [shift, metric], of the real pictures and of the translations

    key = _key(images, places, shifts, source)
    saved = cached(source.cache, {"curves": key}, len(shifts), measure_missing)["curves"]
    perfect, fake = (
        {metric: tuple(values.tolist()) for metric, values in zip(metrics, side.T, strict=True)} for side in saved
    )
    return Misregistration(
        shifts=shifts, pictures=len(places), width=images.side - max(shifts), perfect=perfect, fake=fake
    )


def _metrics(source: FeatureSource) -> list[Metric]:
    """The metrics whose weights are here, in the order of the cache."""
    with_phv = [Metric.PHV] if source.weights_of_spec(FeatureSpec.PHV) else []
    with_lpips = [TRUNK_METRIC[trunk] for trunk in Trunk if source.weights_of_trunk(trunk)]
    return [Metric.SSIM, Metric.PSNR, *with_phv, *with_lpips]


def _key(images: ImageSet, places: Sequence[int], shifts: Sequence[int], source: FeatureSource) -> str:
    """The name in the cache: the networks, the shifts, and the sha256 of each pair's pixels."""
    weights = [source.weights_of_spec(FeatureSpec.PHV), *(source.weights_of_trunk(trunk) for trunk in Trunk)]
    pairs = [(images.digests[TRANSLATED][place], images.digests[REFERENCE][place]) for place in places]
    return features_key("misregistration", *(digest or "" for digest in weights), repr(shifts), repr(pairs))


def measure_all(images: ImageSet, places: Sequence[int], shifts: Sequence[int], source: FeatureSource) -> Curves:
    """The mean over `places` of every metric at each shift of the real pictures."""
    networks = source.networks
    pooled = networks.pooled(FeatureSpec.PHV) if source.weights_of_spec(FeatureSpec.PHV) else None
    perceptual = {trunk: networks.perceptual(trunk) for trunk in Trunk if source.weights_of_trunk(trunk)}
    fakes, reals = images.reads[TRANSLATED], images.reads[REFERENCE]
    curves = in_threads(lambda place: measure_pixels(fakes(place), reals(place), shifts), places, "misregistration")
    if pooled or perceptual:
        for curve, place in zip(curves, track(places, what="misregistration", unit="picture"), strict=True):
            curve |= measure_features(fakes(place), reals(place), shifts, pooled, perceptual, networks.device)
    return {metric: np.mean([curve[metric] for curve in curves], axis=0) for metric in _metrics(source)}


def shifts_for(side: int) -> tuple[int, ...]:
    """The shifts that leave at least half of a picture, and a window of SSIM."""
    return tuple(shift for shift in SHIFTS if shift <= min(side // 2, side - SIDE))


def windows(picture_u8: PictureU8, shifts: Sequence[int]) -> Iterator[PictureU8]:
    """The part of a picture that every shift leaves, once for each shift of the picture to the right."""
    most, wide = max(shifts), picture_u8.shape[1]
    for shift in shifts:
        yield np.ascontiguousarray(picture_u8[:, most - shift : wide - shift])


def measure_pixels(fake: PictureU8, real: PictureU8, shifts: Sequence[int]) -> Curves:
    """SSIM and PSNR of one pair at each shift of the real picture."""
    fixed = [next(windows(picture, shifts)) for picture in (real, fake)]
    return {
        Metric.SSIM: shifted_similarities(fixed, real, [max(shifts) - shift for shift in shifts]),
        Metric.PSNR: np.array([[psnr(one, other) for other in windows(real, shifts)] for one in fixed]),
    }


def measure_features(
    fake: PictureU8,
    real: PictureU8,
    shifts: Sequence[int],
    pooled: Pooled | None,
    perceptual: Mapping[Trunk, Perceptual],
    device: torch.device,
) -> Curves:
    """PHV and LPIPS of one pair at each shift of the real picture, where their networks are given."""
    fixed = [next(windows(picture, shifts)) for picture in (real, fake)]
    moved = list(windows(real, shifts))
    found: Curves = {}
    if pooled:
        vectors = [[stage.cpu().numpy() for stage in pooled(to_unit([one], device))] for one in (*fixed, *moved)]
        found[Metric.PHV] = np.array(
            [[phv(one, other, THRESHOLD).mean() for other in vectors[2:]] for one in vectors[:2]]
        )
    for trunk, network in perceptual.items():
        taps = [network.taps(to_unit([one], device)) for one in fixed]
        columns = [
            [float(network.distance(tap, other)[0]) for tap in taps]
            for other in (network.taps(to_unit([window], device)) for window in moved)
        ]
        found[TRUNK_METRIC[trunk]] = np.array(columns).T
    return found
