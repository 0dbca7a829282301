"""Pix2pix and Pyramid Pix2pix: a conditional discriminator, and the absolute difference to the real picture.

Discriminator first, then the generator on the fake made before. Sources: pix2pix (CVPR 2017); BCI (CVPRW 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.losses import OBJECTIVES, absolute, octaves
from train.methods.base import DISCRIMINATOR, GENERATOR, adversarial_pair
from train.networks.build import make_discriminator, make_generator
from train.networks.patchgan import check_side
from train.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a step's forward pass made: `fake` signed [B,3,S,S]."""

    fake: Tensor


class Paired:
    """L_G = adversarial + weight x L1 at one scale (pix2pix) or at four, an octave apart (Pyramid Pix2pix)."""

    players: tuple[str, ...] = (DISCRIMINATOR, GENERATOR)
    needs_pairs = True

    def __init__(self, settings: TrainSettings, *, scales: int) -> None:
        self.generator = make_generator(settings)
        self.discriminator = make_discriminator(settings)
        self.multiple: int = self.generator.multiple
        self.layers = settings.discriminator.layers
        self.objective = OBJECTIVES[settings.objective]
        l1, octave = settings.weights.l1, settings.weights.octaves
        self.weights = {"adversarial": settings.weights.adversarial, "l1": l1}
        self.weights |= {f"octave{scale}": octave for scale in range(1, scales)}

    def modules(self) -> dict[str, nn.Module]:
        """Everything that has state."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def owned(self, player: str) -> list[nn.Module]:
        """Each player moves its own network."""
        return [self.discriminator] if player == DISCRIMINATOR else [self.generator]

    def check_side(self, side: int) -> None:
        """The discriminator must have an output for a side; raises SettingsError with the smallest that has one."""
        check_side(side, self.layers)

    def generate(self, batch: Batch, generator: torch.Generator) -> Outputs:
        """The translated picture that both players judge."""
        return Outputs(fake=self.generator(batch.he))

    def terms(
        self, player: str, batch: Batch, outputs: Outputs, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The weighted scalars of a player, by name."""
        if player == DISCRIMINATOR:
            return adversarial_pair(
                self.objective,
                fake=self.discriminator.judge(batch.he, outputs.fake.detach()),
                real=self.discriminator.judge(batch.he, batch.ihc),
            )
        verdict = self.discriminator.judge(batch.he, outputs.fake)
        differences = octaves(outputs.fake, batch.ihc) if len(self.weights) > 2 else [absolute(outputs.fake, batch.ihc)]
        values = [self.objective(verdict, 1.0), *differences]
        return {name: w * value.mean() for (name, w), value in zip(self.weights.items(), values, strict=True)}


def pix2pix(settings: TrainSettings) -> Paired:
    """Pix2pix: L1 on the picture as it is."""
    return Paired(settings, scales=1)


def pyramid_p2p(settings: TrainSettings) -> Paired:
    """Pyramid Pix2pix: L1 at four scales."""
    return Paired(settings, scales=4)
