"""CycleGAN: there and back again, two generators, two discriminators, no pairs.

Both generators move first, in one Adam; then both discriminators, in another, on fakes from a history.
Source: CycleGAN (ICCV 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from store.schema import SettingsError
from train.data import Batch
from train.discriminators import check_side
from train.history import ImageHistory
from train.losses import OBJECTIVES, absolute
from train.parts import adversarial_pair, make_discriminator, make_generator
from train.settings import TrainSettings

GENERATORS, DISCRIMINATORS = "generators", "discriminators"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a step's forward pass made, signed [B,3,S,S]: translations, and translations of these back again."""

    fake_ihc: Tensor
    fake_he: Tensor
    back_he: Tensor
    back_ihc: Tensor


class CycleGan:
    """L_G = both adversarial terms + cycle x L1 of both rounds + cycle x identity x L1 of what was right already."""

    players: tuple[str, ...] = (GENERATORS, DISCRIMINATORS)
    needs_pairs = False

    def __init__(self, settings: TrainSettings) -> None:
        if settings.discriminator.conditional:
            raise SettingsError(
                "discriminator.conditional = true with method = cyclegan: without pairs nothing stands beside a real "
                "picture; set discriminator.conditional=false"
            )
        self.generator, self.generator_he = make_generator(settings), make_generator(settings)
        self.discriminator, self.discriminator_he = make_discriminator(settings), make_discriminator(settings)
        self.history, self.history_he = ImageHistory(), ImageHistory()
        self.multiple: int = self.generator.multiple
        self.layers = settings.discriminator.layers
        self.objective = OBJECTIVES[settings.objective]
        adversarial, cycle = settings.weights.adversarial, settings.weights.cycle
        identity = cycle * settings.weights.identity
        self.weights = {"adversarial": adversarial, "adversarial_he": adversarial}
        self.weights |= {"cycle_he": cycle, "cycle_ihc": cycle, "identity_ihc": identity, "identity_he": identity}

    def modules(self) -> dict[str, nn.Module]:
        """Everything that has state; what is called `_he` makes, judges or remembers H&E."""
        return {
            "generator": self.generator,
            "generator_he": self.generator_he,
            "discriminator": self.discriminator,
            "discriminator_he": self.discriminator_he,
            "history": self.history,
            "history_he": self.history_he,
        }

    def owned(self, player: str) -> list[nn.Module]:
        """Both generators are one player, both discriminators the other."""
        if player == GENERATORS:
            return [self.generator, self.generator_he]
        return [self.discriminator, self.discriminator_he]

    def check_side(self, side: int) -> None:
        """The discriminators must have an output for a side; raises SettingsError with the smallest that has one."""
        check_side(side, self.layers)

    def generate(self, batch: Batch, generator: torch.Generator) -> Outputs:
        """Both rounds: he to ihc and back, ihc to he and back."""
        fake_ihc = self.generator(batch.he)
        back_he = self.generator_he(fake_ihc)
        fake_he = self.generator_he(batch.ihc)
        back_ihc = self.generator(fake_he)
        return Outputs(fake_ihc=fake_ihc, fake_he=fake_he, back_he=back_he, back_ihc=back_ihc)

    def terms(
        self, player: str, batch: Batch, outputs: Outputs, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The weighted scalars of a player, by name."""
        if player == GENERATORS:
            return self._generator_terms(batch, outputs)
        fake_ihc = self.history.exchange(outputs.fake_ihc, generator)
        fake_he = self.history_he.exchange(outputs.fake_he, generator)
        judge, judge_he = self.discriminator, self.discriminator_he
        return adversarial_pair(self.objective, real=judge(batch.ihc), fake=judge(fake_ihc)) | adversarial_pair(
            self.objective, real=judge_he(batch.he), fake=judge_he(fake_he), of="discriminator_he"
        )

    def _generator_terms(self, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        values = {
            "adversarial": self.objective(self.discriminator(outputs.fake_ihc), 1.0),
            "adversarial_he": self.objective(self.discriminator_he(outputs.fake_he), 1.0),
            "cycle_he": absolute(outputs.back_he, batch.he),
            "cycle_ihc": absolute(outputs.back_ihc, batch.ihc),
            "identity_ihc": absolute(self.generator(batch.ihc), batch.ihc),
            "identity_he": absolute(self.generator_he(batch.he), batch.he),
        }
        return {name: weight * values[name].mean() for name, weight in self.weights.items()}
