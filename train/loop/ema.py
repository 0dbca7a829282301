"""EMA: an exponential moving average of the generator's weights, used where the setting `ema` is above 0.

Source: Yazıcı et al., "The Unusual Effectiveness of Averaging in GAN Training", ICLR 2019. The published runs of the
methods here use none.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from train.loop.undo import Backup, copy_all


class Ema:
    """A copy of a network whose weights are averaged: decay x itself + (1 - decay) x the network, after each step."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.before = Backup(_parameters(self.network))

    @torch.no_grad()
    def update(self, network: nn.Module, broken: Tensor) -> None:
        """Take in a step of `network`: parameters are averaged; buffers (statistics, vectors) are copied.

        After a step that was `broken`, bool [], the network is that of before, and so is the average.
        """
        self.before.keep()
        torch._foreach_lerp_(self.before.tensors, _parameters(network), 1 - self.decay)
        self.before.put_back_if(broken)
        copy_all(list(self.network.buffers()), list(network.buffers()))


def _parameters(network: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in network.parameters()]
