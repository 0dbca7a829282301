"""The paper's method: attention generator, PatchGAN, and the four terms of eq. (7).

Discriminator first, then generator and projection heads on the fake made before: the order of the ASP repository, whose
training step this is. L_G = adversarial + NCE + ASP + Gaussian pyramid, weights as in the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from train.contrastive import ProjectionHeads, draw_positions
from train.data import Batch
from train.discriminators import PatchDiscriminator, check_side
from train.generators import ResnetGenerator
from train.losses import adaptive_patch_nce, least_squares, patch_nce, pyramid
from train.settings import TrainSettings

DISCRIMINATOR, GENERATOR = "discriminator", "generator"


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a step's forward pass made: `fake` signed [B,3,S,S]."""

    fake: Tensor


class AttentionGan:
    """H&E to IHC in one direction, with paired supervision in feature space (ASP) and in the pyramid."""

    players: tuple[str, ...] = (DISCRIMINATOR, GENERATOR)
    multiple: int = ResnetGenerator.multiple

    def __init__(self, settings: TrainSettings) -> None:
        self.generator = ResnetGenerator(settings.generator)
        self.discriminator = PatchDiscriminator(settings.discriminator)
        self.heads = ProjectionHeads(self.generator.tap_channels, settings.contrast.width)
        self.layers = settings.discriminator.layers
        self.contrast, self.weights, self.asp = settings.contrast, settings.weights, settings.asp
        self.constant_share = settings.optimiser.constant_epochs / settings.optimiser.epochs

    def modules(self) -> dict[str, nn.Module]:
        """Everything that has state."""
        return {"generator": self.generator, "discriminator": self.discriminator, "heads": self.heads}

    def owned(self, player: str) -> list[nn.Module]:
        """The heads move with the generator; the published third Adam does the same, parameter by parameter."""
        return [self.discriminator] if player == DISCRIMINATOR else [self.generator, self.heads]

    def check_side(self, side: int) -> None:
        """The discriminator must have an output for a side; raises SettingsError with the smallest that has one."""
        check_side(side, self.layers)

    def generate(self, batch: Batch) -> Outputs:
        """The translated picture that both players judge."""
        return Outputs(fake=self.generator(batch.he))

    def terms(
        self, player: str, batch: Batch, outputs: Outputs, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The weighted scalars of a player, by name."""
        if player == DISCRIMINATOR:
            return self._discriminator_terms(batch.ihc, outputs.fake.detach())
        return self._generator_terms(batch, outputs.fake, progress, generator)

    def _discriminator_terms(self, ihc: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Half of each mean squared error: 0 is asked of fakes, 1 of real pictures. Source: ASP repository."""
        return {
            "discriminator_fake": 0.5 * least_squares(self.discriminator(fake), 0.0).mean(),
            "discriminator_real": 0.5 * least_squares(self.discriminator(ihc), 1.0).mean(),
        }

    def _generator_terms(
        self, batch: Batch, fake: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Eq. (7). NCE and ASP draw their own positions from the same three encodings; keys carry no gradient."""
        with torch.no_grad():
            he_features = self.generator.encode(batch.he)
        fake_features = self.generator.encode(fake)
        with torch.no_grad():
            ihc_features = self.generator.encode(batch.ihc)

        nce = partial(patch_nce, temperature=self.contrast.temperature)
        asp = partial(
            adaptive_patch_nce,
            temperature=self.contrast.temperature,
            progress=progress,
            constant_share=self.constant_share,
            schedule=self.asp.schedule,
            lookup=self.asp.lookup,
        )
        verdict = self.discriminator(fake)
        return {
            "adversarial": self.weights.adversarial * least_squares(verdict, 1.0).mean(),
            "nce": self.weights.nce * self._contrast(fake_features, he_features, generator, nce),
            "asp": self.weights.asp * self._contrast(fake_features, ihc_features, generator, asp),
            "pyramid": self.weights.pyramid * pyramid(fake, batch.ihc).mean(),
        }

    def _contrast(
        self,
        query_features: Sequence[Tensor],
        key_features: Sequence[Tensor],
        generator: torch.Generator,
        loss: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Mean over patches, then over taps, of `loss` at positions drawn anew."""
        positions = draw_positions(query_features, self.contrast.patches, generator)
        queries = self.heads(query_features, positions)
        with torch.no_grad():
            keys = self.heads(key_features, positions)
        return torch.stack([loss(query, key).mean() for query, key in zip(queries, keys, strict=True)]).mean()
