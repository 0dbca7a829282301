"""LPIPS 0.1 (Zhang et al., CVPR 2018) in two halves: the features of one picture, and the distance of two pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from evaluate.columns import Metric
from evaluate.features.networks import Parameters, check_kinds, exact_float32
from evaluate.protocol import Network
from store.schema import WeightsError

LPIPS_EPSILON = 1e-10  # LPIPS package, normalize_tensor


class Trunk(StrEnum):
    """The networks on which LPIPS was fitted, as its package calls them."""

    ALEX = "alex"
    VGG = "vgg"


TRUNK_NETWORK: dict[Trunk, Network] = {Trunk.ALEX: Network.ALEX, Trunk.VGG: Network.VGG}
TRUNK_METRIC: dict[Trunk, Metric] = {Trunk.ALEX: Metric.LPIPS_ALEX, Trunk.VGG: Metric.LPIPS_VGG}


@dataclass(frozen=True, slots=True, kw_only=True)
class Perceptual:
    """LPIPS in two halves: a real picture goes through the network once, however many pictures are compared with it.

    `scale` prepares signed [B,3,H,W] for `trunk`, which returns maps, [B,C,h,w] each; `heads` are [1,C,1,1] each, all
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
    import lpips  # it imports torchvision, which takes seconds

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchvision's, about arguments that the package uses
        whole = lpips.LPIPS(net=trunk.value, version="0.1", pnet_rand=True, verbose=False)
    own = whole.net.state_dict()
    named = {name: f"features.{name.partition('.')[2]}" for name in own}  # slice<n>.<place in features>.weight
    if missing := sorted(set(named.values()) - parameters.keys()):
        raise WeightsError(
            f"the parameters do not fit the trunk {trunk}: {len(missing)} are missing, such as {missing[0]!r}"
        )
    given = {name: parameters[place] for name, place in named.items()}
    check_kinds(f"trunk {trunk}", given, own)
    whole.net.load_state_dict(given)
    whole.eval().requires_grad_(False)
    return Perceptual(
        scale=whole.scaling_layer,
        trunk=whole.net.to(memory_format=torch.channels_last),
        heads=tuple(head.model[-1].weight for head in whole.lins),
        digest=digest,
    )
