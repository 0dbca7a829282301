"""The losses as pure functions, each the size of its formula, with one value per picture or per patch.

Pictures are `signed` [B,3,H,W], patches are unit vectors [B,P,C]. The caller takes means over patches and pictures and
multiplies by the weights of eq. (7). Sources: LSGAN (ICCV 2017), CUT (ECCV 2020), ASP (MICCAI 2023), BCI (CVPRW 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from train.kernels import launching
from train.settings import Lookup, Objective, Schedule

PYRAMID_WEIGHTS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # ASP launcher: gp_weights, finest level first
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
GAUSSIAN = tuple(math.exp(-x * x / 2) / (1 + 2 * math.exp(-1 / 2)) for x in (-1, 0, 1))  # standard deviation 1 px
BLURS_PER_OCTAVE = 4  # BCI repository


def least_squares(logits: Tensor, target: float) -> Tensor:
    """Squared distance of a discriminator's logits [B,1,h,w] to `target` (1 real, 0 fake), mean per picture, [B]."""
    return (logits - target).square().mean(dim=(1, 2, 3))


def cross_entropy(logits: Tensor, target: float) -> Tensor:
    """-log of the probability that logits [B,1,h,w] give to `target` (1 real, 0 fake), mean per picture, [B]."""
    losses = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target), reduction="none")
    return losses.mean(dim=(1, 2, 3))


OBJECTIVES: dict[Objective, Callable[[Tensor, float], Tensor]] = {
    Objective.LEAST_SQUARES: least_squares,
    Objective.CROSS_ENTROPY: cross_entropy,
}


def absolute(fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference (L1) per picture, [B]."""
    return (fake - real).abs().mean(dim=(1, 2, 3))


def patch_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Each patch of `query` must pick out the same patch of `key` among all patches of its picture.

    query, key: [...,P,C], unit length along C; no gradient reaches the key. Returns one loss per patch, [...,P].
    The published code also lists the positive among the negatives, with a logit of -10/T: zero effect in float32.
    The paper calls it InfoNCE; it is the l_i that eq. (4) weights.
    Source: CUT, PatchNCE with negatives from the same picture only.
    """
    with torch.autocast(query.device.type, enabled=False):  # a bf16 cosine is off by 0.004, its logit by 0.06
        cosines = torch.einsum("...pc,...qc->...pq", query, key.detach())  # [...,P,P]
    if cosines.dtype == torch.float32 and launching.takes(cosines):
        from train.kernels.patches import contrasting

        return contrasting.cross_entropy_of_diagonal(cosines, temperature)
    logits = cosines / temperature
    return -logits.log_softmax(dim=-1).diagonal(dim1=-2, dim2=-1)


def schedule_weight(schedule: Schedule, progress: float, constant_share: float) -> float:
    """g(t) in [0,1]: how much the loss relies on h at progress t in [0,1). Source: ASP.

    constant_share: k, the share of the epochs with a constant learning rate.
    """
    match schedule:
        case Schedule.ZERO:
            return 0.0
        case Schedule.LINEAR:
            return progress
        case Schedule.SIGMOID:
            return 1 / (1 + math.exp(-10 * (progress - 0.5)))
        case Schedule.LAMBDA:
            return 0.0 if progress < constant_share else (progress - constant_share) / (1 - constant_share)


def schedule_shares(schedule: Schedule, progress: float, constant_share: float) -> Tensor:
    """1 - g(t) and g(t), float64 [2]: the share of 1 and that of h in the weights of eq. (5)."""
    trust = schedule_weight(schedule, progress, constant_share)
    return torch.tensor((1 - trust, trust), dtype=torch.float64)


def lookup_weight(lookup: Lookup, similarity: Tensor) -> Tensor:
    """h(x) >= 0 for cosines x in [-1,1], any shape: the weight of a pair of patches by its similarity. Source: ASP."""
    match lookup:
        case Lookup.UNIFORM:
            return torch.ones_like(similarity)
        case Lookup.LINEAR:
            return similarity.clamp(min=0)
        case Lookup.TOP:
            return (1 - (similarity.clamp(min=0) - 1).square()).sqrt()
        case Lookup.BELL:
            return torch.exp(-(4 * (similarity - 0.5)).square() / 2) / math.sqrt(2 * math.pi)


def asp_weights(
    similarity: Tensor, shares: Tensor, lookup: Lookup, mean: Callable[[Tensor], Tensor] = Tensor.mean
) -> Tensor:
    """Weights of eq. (4) and eq. (5): w = (1 - g(t)) + g(t) h(x), rescaled to mean 1, a step that the paper omits.

    similarity: cosines of query and key of one tap, [B,P]; no gradient reaches them. shares: `schedule_shares`. `mean`
    gives the mean of the whole batch, []; with several processes the caller passes one over all of them. Returns
    [B,P]. For all taps at once everything is [taps,B,P], and `mean` gives that of each, [taps,1,1]. Source: ASP.
    """
    rest, trust = shares.unbind()
    weights = rest + trust * lookup_weight(lookup, similarity.detach())
    return weights / mean(weights)


def adaptive_patch_nce(
    query: Tensor,
    key: Tensor,
    temperature: float,
    shares: Tensor,
    lookup: Lookup,
    mean: Callable[[Tensor], Tensor] = Tensor.mean,
) -> Tensor:
    """Adaptive supervised PatchNCE, eq. (4): each patch's loss weighted by how alike fake and ihc are there, eq. (5).

    query, key: patches of fake and ihc at the same positions, [B,P,C], or [taps,B,P,C] of all taps at once, unit
    length; the others as in `asp_weights`. Returns one loss per patch, [B,P] or [taps,B,P].
    """
    similarity = (query * key).sum(dim=-1)
    weights = asp_weights(similarity, shares, lookup, mean)
    return weights * patch_nce(query, key, temperature)


def pyramid_levels(fake: Tensor, real: Tensor) -> list[Tensor]:
    """Mean absolute difference of six Gaussian pyramid levels, finest first, each [B].

    Each of the first five levels is the blurred picture, which is then halved for the next; the sixth is the last
    halved picture. The pyramid is linear, so it is built from the difference. Sides of at least 33 px. Source: ASP,
    gauss_pyramid.
    """
    rest = fake - real
    if launching.takes(rest):
        return list(_fused_pyramid(rest, (1.0,) * 6, total=False))
    levels = []
    for _ in range(5):
        blurred = _blur(rest)
        levels.append(blurred)
        rest = blurred[:, :, ::2, ::2]
    return [level.abs().mean(dim=(1, 2, 3)) for level in (*levels, rest)]


def pyramid(fake: Tensor, real: Tensor, weights: Sequence[float] = PYRAMID_WEIGHTS) -> Tensor:
    """L_GP, eq. (6): mean over six levels of weight x difference, [B]. The paper prints a sum; ASP takes the mean."""
    if launching.takes(fake, real):
        return _fused_pyramid(fake - real, [weight / len(weights) for weight in weights], total=True)
    levels = pyramid_levels(fake, real)
    return torch.stack([weight * level for weight, level in zip(weights, levels, strict=True)]).mean(dim=0)


def octaves(fake: Tensor, real: Tensor) -> list[Tensor]:
    """Mean absolute difference at four scales, full side first, each [B].

    From each scale to the next a Gaussian of 3 x 3 px is applied four times and every second pixel is kept. Sides of at
    least 16 px. Source: BCI, Pyramid Pix2pix.
    """
    rest = fake - real
    if launching.takes(rest):
        from train.kernels.pyramids import Pyramid, differences

        return list(
            differences(rest, Pyramid(taps=_repeated_gaussian(), blurred=False, weights=(1.0,) * 4, total=False))
        )
    scales = [rest]
    for _ in range(3):
        for _ in range(BLURS_PER_OCTAVE):
            rest = _blur(rest, GAUSSIAN)
        rest = rest[:, :, ::2, ::2]
        scales.append(rest)
    return [scale.abs().mean(dim=(1, 2, 3)) for scale in scales]


def _fused_pyramid(rest: Tensor, weights: Sequence[float], *, total: bool) -> Tensor:
    from train.kernels.pyramids import Pyramid, differences

    return differences(rest, Pyramid(taps=BINOMIAL[2:], blurred=True, weights=tuple(weights), total=total))


def _repeated_gaussian() -> tuple[float, ...]:
    """Weights of all blurs of an octave in one, from the centre outwards."""
    taps = GAUSSIAN
    for _ in range(1, BLURS_PER_OCTAVE):
        taps = tuple(np.convolve(taps, GAUSSIAN))
    return tuple(map(float, taps[BLURS_PER_OCTAVE:]))


def _blur(picture: Tensor, taps: Sequence[float] = BINOMIAL) -> Tensor:
    """A separable blur, by default (1,4,6,4,1)x(1,4,6,4,1)/256, reflection padded; written as sums to stay float32."""
    height, width = picture.shape[2:]
    margin = len(taps) // 2
    padded = F.pad(picture, (margin,) * 4, mode="reflect")
    rows = torch.stack([tap * padded[:, :, i : i + height] for i, tap in enumerate(taps)]).sum(dim=0)
    return torch.stack([tap * rows[..., i : i + width] for i, tap in enumerate(taps)]).sum(dim=0)
