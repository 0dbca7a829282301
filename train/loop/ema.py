"""EMA: an exponential moving average of the generator's weights, used where the setting `ema` is above 0.

Source: Yazıcı et al., "The Unusual Effectiveness of Averaging in GAN Training", ICLR 2019. The published runs of the
methods here use none.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """A copy of a network whose weights are averaged: decay x itself + (1 - decay) x the network, after each step."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, broken: Tensor) -> None:
        """Take in a step of `network`: parameters are averaged; buffers (statistics, vectors) are copied.

        After a step that was `broken`, bool [], the network is that of before, and so is the average.
        """
        averages = _parameters(self.network)
        moved = torch._foreach_lerp(averages, _parameters(network), 1 - self.decay)
        for averaged, new in zip(averages, moved, strict=True):
            torch.where(broken, averaged, new, out=averaged)
        for averaged, current in zip(self.network.buffers(), network.buffers(), strict=True):
            averaged.copy_(current)


def _parameters(network: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in network.parameters()]
