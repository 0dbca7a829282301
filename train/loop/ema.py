"""A moving average of the generator: what is shown, validated and kept where `ema` is on.

Source: EMA of GAN weights, Yazıcı et al. (ICLR 2019). Published runs of the methods here have none.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class MovingAverage:
    """A copy of a network that keeps `share` of itself in a step and takes the rest from the network."""

    def __init__(self, network: nn.Module, share: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.share = share

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Take a step after the network has: parameters are averaged, vectors and statistics copied."""
        torch._foreach_lerp_(_parameters(self.network), _parameters(network), 1 - self.share)
        for own, other in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(other)


def _parameters(network: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in network.parameters()]
