"""A new method in one file: a convolution that learns the real IHC by L1. It has no discriminator.

With a line `"mine": MINE` in `train/methods/registry.py` it can be trained, resumed, used and scored.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.losses import absolute
from train.methods.base import GENERATOR, MethodEntry
from train.methods.decisions import Decisions
from train.settings import TrainSettings


class OneConvolution:
    """L_G = weight x L1 between the real IHC and a 3 x 3 convolution of the H&E."""

    players: tuple[str, ...] = (GENERATOR,)
    multiple: int = 1
    needs_pairs: bool = True

    def __init__(self, settings: TrainSettings) -> None:
        self.generator = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())
        self.weights = {"l1": settings.weights.l1}
        self.input_channels = {"generator": 3}

    def modules(self) -> dict[str, nn.Module]:
        """Everything that has state."""
        return {"generator": self.generator}

    def owned(self, player: str) -> list[nn.Module]:
        """There is one player, with the whole network."""
        return [self.generator]

    def check_side(self, side: int) -> None:
        """Every side works."""

    def decide(self, rows: int, side: int, progress: float, generator: torch.Generator) -> Decisions:
        """There is nothing to decide."""
        return Decisions()

    def generate(self, batch: Batch, decisions: Decisions) -> Tensor:
        """The fake, signed [B,3,S,S]."""
        fake: Tensor = self.generator(batch.he)
        return fake

    def terms(self, player: str, batch: Batch, outputs: Tensor, decisions: Decisions) -> dict[str, Tensor]:
        """The weighted L1 term."""
        return {"l1": self.weights["l1"] * absolute(outputs, batch.ihc).mean()}


MINE = MethodEntry(title="One convolution", source="made for the tests", build=OneConvolution, reads=("weights.l1",))
