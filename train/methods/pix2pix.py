"""Pix2pix and Pyramid Pix2pix: a conditional discriminator, and the absolute difference to the real picture.

The discriminator steps first, then the generator on the fake made before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.losses import OBJECTIVES, absolute, octaves
from train.methods.base import (
    ADVERSARIAL,
    DISCRIMINATOR,
    GAN_SETTINGS,
    GENERATOR,
    MethodEntry,
    adversarial_pair,
)
from train.methods.decisions import Decisions
from train.networks.build import make_discriminator, make_generator
from train.networks.patchgan import check_side
from train.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a step's forward pass made: `fake` signed [B,3,S,S]."""

    fake: Tensor


class Paired:
    """L_G = adversarial + weight x L1, at one scale (pix2pix) or at four, an octave apart (Pyramid Pix2pix)."""

    players: tuple[str, ...] = (DISCRIMINATOR, GENERATOR)
    needs_pairs = True

    def __init__(self, settings: TrainSettings, *, scales: int) -> None:
        self.generator = make_generator(settings)
        self.discriminator = make_discriminator(settings)
        self.multiple: int = self.generator.multiple
        self.layers = settings.discriminator.layers
        self.objective = OBJECTIVES[settings.objective]
        self.scales = scales
        weights = settings.weights
        self.weights = {ADVERSARIAL: weights.adversarial, "l1": weights.l1}
        self.weights |= {f"octave{scale}": weights.octaves for scale in range(1, scales)}
        self.input_channels = {"generator": 3, "discriminator": self.discriminator.channels}

    def modules(self) -> dict[str, nn.Module]:
        """Everything that has state."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def owned(self, player: str) -> list[nn.Module]:
        """Each player trains its own network."""
        return [self.discriminator] if player == DISCRIMINATOR else [self.generator]

    def check_side(self, side: int) -> None:
        """Refuse sides, px, too small for the discriminator: SettingsError with the smallest that works."""
        check_side(side, self.layers)

    def decide(self, rows: int, side: int, progress: float, generator: torch.Generator) -> Decisions:
        """There is nothing to decide: dropout draws by itself."""
        return Decisions()

    def generate(self, batch: Batch, decisions: Decisions) -> Outputs:
        """The translation that both players use."""
        return Outputs(fake=self.generator(batch.he))

    def terms(self, player: str, batch: Batch, outputs: Outputs, decisions: Decisions) -> dict[str, Tensor]:
        """The weighted terms of a player, by name."""
        if player == DISCRIMINATOR:
            return adversarial_pair(
                self.objective,
                fake=self.discriminator.score(batch.he, outputs.fake.detach()),
                real=self.discriminator.score(batch.he, batch.ihc),
            )
        logits = self.discriminator.score(batch.he, outputs.fake)  # [B,1,h,w]
        differences = octaves(outputs.fake, batch.ihc) if self.scales > 1 else [absolute(outputs.fake, batch.ihc)]
        values = [self.objective(logits, 1.0), *differences]
        return {name: w * value.mean() for (name, w), value in zip(self.weights.items(), values, strict=True)}


def pix2pix(settings: TrainSettings) -> Paired:
    """Pix2pix: L1 at the full side."""
    return Paired(settings, scales=1)


def pyramid_p2p(settings: TrainSettings) -> Paired:
    """Pyramid Pix2pix: L1 at four scales."""
    return Paired(settings, scales=4)


PIX2PIX = MethodEntry(
    title="pix2pix",
    source="Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017",
    build=pix2pix,
    reads=(*GAN_SETTINGS, "weights.l1"),
    paper_row="Pix2pix",
)
PYRAMID_P2P = MethodEntry(
    title="Pyramid Pix2pix",
    source="Liu et al., BCI: Breast Cancer Immunohistochemical Image Generation through Pyramid Pix2pix, CVPRW 2022",
    build=pyramid_p2p,
    reads=(*GAN_SETTINGS, "weights.l1", "weights.octaves"),
    paper_row="PyramidP2P",
)
