"""One number for one translated picture and the real one: SSIM, PSNR, PHV and LPIPS, as the field computes them.

SSIM and PSNR take u8 [H,W,3] RGB, PHV pooled features, LPIPS unit [B,3,H,W]. Sources: the evaluation of ASP (MICCAI
2023) and of BCI (Pyramid Pix2pix), through scikit-image with its defaults; LPIPS 0.1 (Zhang et al., CVPR 2018), through
its authors' package.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import lpips
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from evaluate.features import Parameters, exact_float32
from evaluate.readings import Network
from store.schema import WeightsError

WHITE = 255  # L of both formulas
LPIPS_EPSILON = 1e-10  # LPIPS package, normalize_tensor


def ssim(fake_u8: NDArray[np.uint8], real_u8: NDArray[np.uint8]) -> float:
    """Structural similarity, at most 1: mean over the channels R, G, B, each over 7x7 uniform windows.

    K1 0.01, K2 0.03, sample covariance (N/(N-1), N = 49), mean of the map without its outer 3 px. Not on luminance, not
    Gaussian-windowed. Source: Wang et al. 2004, eq. (13), in the variant named above.
    """
    value = structural_similarity(  # type: ignore[no-untyped-call]  # scikit-image is not typed
        real_u8, fake_u8, data_range=WHITE, channel_axis=-1
    )
    return float(value)


def psnr(fake_u8: NDArray[np.uint8], real_u8: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255² / MSE) over all pixels and channels.

    Identical pictures give infinity. An average over pictures is the mean of their dB values, so one infinity makes it
    infinite, and it is reported as such: a copy of the real picture among the translated ones should be seen.
    """
    with np.errstate(divide="ignore"):
        value = peak_signal_noise_ratio(  # type: ignore[no-untyped-call]  # scikit-image is not typed
            real_u8, fake_u8, data_range=WHITE
        )
    return float(value)


def phv(
    fake: Sequence[NDArray[np.floating]], real: Sequence[NDArray[np.floating]], threshold: float
) -> NDArray[np.float64]:
    """Perceptual hash value: the share of channels whose spatial mean differs by more than `threshold`, [N,layer].

    fake, real: for each layer the spatial means [N,C] of N pictures. Source: ASP repository, util/perceptual.py.
    """
    shares = [(np.abs(one - two) > threshold).mean(axis=1) for one, two in zip(fake, real, strict=True)]
    return np.stack(shares, axis=1)


class Trunk(StrEnum):
    """The networks on which LPIPS was fitted, as its package calls them."""

    ALEX = "alex"
    VGG = "vgg"


NETWORKS: dict[Trunk, Network] = {Trunk.ALEX: Network.ALEX, Trunk.VGG: Network.VGG}


@dataclass(frozen=True, slots=True, kw_only=True)
class Perceptual:
    """LPIPS in two halves, so that a real picture is looked at once however many pictures are compared with it.

    `trunk` hands out maps, [B,C,h,w] each, of what `scale` makes of signed [B,3,H,W]; `heads` are [1,C,1,1] each, all
    ones where no head was fitted. `digest` is the sha256 of the trunk's weights.
    """

    scale: nn.Module
    trunk: nn.Module
    heads: tuple[Tensor, ...]
    digest: str

    @torch.inference_mode()
    def taps(self, unit: Tensor) -> tuple[Tensor, ...]:
        """The maps of unit [B,3,H,W], each position of unit length along channels."""
        signed = self.scale(2 * unit - 1).contiguous(memory_format=torch.channels_last)
        with exact_float32():
            taps = self.trunk(signed)
        return tuple(tap.div_(torch.linalg.vector_norm(tap, dim=1, keepdim=True) + LPIPS_EPSILON) for tap in taps)

    @torch.inference_mode()
    def distance(self, one: Sequence[Tensor], two: Sequence[Tensor]) -> Tensor:
        """The distance of pictures whose taps are given, [B]: weighted squares, mean over positions, sum over taps.

        Heads are linear, so the mean is taken first and the head sees one position.
        """
        total = one[0].new_zeros(one[0].shape[0])
        for first, second, head in zip(one, two, self.heads, strict=True):
            total += (first - second).square_().mean(dim=(2, 3)) @ head.flatten()
        return total


def load_perceptual(trunk: Trunk, parameters: Parameters, digest: str) -> Perceptual:
    """LPIPS 0.1 on a trunk of torchvision, with the heads of the package. WeightsError if the parameters do not fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torchvision, for the words the package uses
        whole = lpips.LPIPS(net=trunk.value, version="0.1", pnet_rand=True, verbose=False)
    own = whole.net.state_dict()
    named = {name: f"features.{name.partition('.')[2]}" for name in own}  # slice<n>.<place in features>.weight
    if missing := sorted(set(named.values()) - parameters.keys()):
        raise WeightsError(
            f"the parameters do not fit the trunk {trunk}: {len(missing)} are missing, such as {missing[0]!r}"
        )
    whole.net.load_state_dict({name: parameters[given] for name, given in named.items()})
    whole.eval().requires_grad_(False)
    return Perceptual(
        scale=whole.scaling_layer,
        trunk=whole.net.to(memory_format=torch.channels_last),
        heads=tuple(head.model[-1].weight for head in whole.lins),
        digest=digest,
    )
