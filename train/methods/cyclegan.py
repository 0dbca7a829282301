"""CycleGAN: two generators, H&E to IHC and back, and two discriminators; no pairs.

Both generators step first, with one Adam; then both discriminators, with another, on fakes from an image pool.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from store.schema import SettingsError
from train.data.batch import Batch
from train.losses import OBJECTIVES, absolute
from train.methods.base import ADVERSARIAL, GAN_SETTINGS, MethodEntry, adversarial_pair
from train.methods.decisions import Decisions
from train.methods.image_pool import ImagePool
from train.networks.build import make_discriminator, make_generator
from train.networks.patchgan import check_side
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
    """L_G = both adversarial terms + cycle x L1 of both cycles + cycle x identity x L1 of both identities.

    An identity term compares a picture with its translation by the generator whose output has the same stain.
    """

    players: tuple[str, ...] = (GENERATORS, DISCRIMINATORS)
    needs_pairs = False

    def __init__(self, settings: TrainSettings) -> None:
        if settings.discriminator.conditional:
            raise SettingsError(
                "discriminator.conditional = true with method = cyclegan: without pairs there is no H&E picture for a "
                "real IHC picture; set discriminator.conditional=false"
            )
        self.generator, self.generator_he = make_generator(settings), make_generator(settings)
        self.discriminator, self.discriminator_he = make_discriminator(settings), make_discriminator(settings)
        self.pool, self.pool_he = ImagePool(), ImagePool()
        self.multiple: int = self.generator.multiple
        self.layers = settings.discriminator.layers
        self.objective = OBJECTIVES[settings.objective]
        adversarial, cycle = settings.weights.adversarial, settings.weights.cycle
        identity = cycle * settings.weights.identity
        self.weights = {ADVERSARIAL: adversarial, "adversarial_he": adversarial}
        self.weights |= {"cycle_he": cycle, "cycle_ihc": cycle, "identity_ihc": identity, "identity_he": identity}
        networks = ("generator", "generator_he", "discriminator", "discriminator_he")
        self.input_channels = dict.fromkeys(networks, 3)

    def modules(self) -> dict[str, nn.Module]:
        """Everything that has state; `_he` is the direction from IHC to H&E. Checkpoints call a pool `history`."""
        return {
            "generator": self.generator,
            "generator_he": self.generator_he,
            "discriminator": self.discriminator,
            "discriminator_he": self.discriminator_he,
            "history": self.pool,
            "history_he": self.pool_he,
        }

    def owned(self, player: str) -> list[nn.Module]:
        """Both generators are one player, both discriminators the other."""
        if player == GENERATORS:
            return [self.generator, self.generator_he]
        return [self.discriminator, self.discriminator_he]

    def check_side(self, side: int) -> None:
        """Refuse sides, px, too small for the discriminators: SettingsError with the smallest that works."""
        check_side(side, self.layers)

    def decide(self, rows: int, side: int, progress: float, generator: torch.Generator) -> Decisions:
        """Which fakes the pools keep and return: those of ihc, then those of he."""
        return Decisions(exchanges=tuple(pool.choose(rows, generator) for pool in (self.pool, self.pool_he)))

    def generate(self, batch: Batch, decisions: Decisions) -> Outputs:
        """Both cycles: he to ihc and back, ihc to he and back."""
        fake_ihc = self.generator(batch.he)
        back_he = self.generator_he(fake_ihc)
        fake_he = self.generator_he(batch.ihc)
        back_ihc = self.generator(fake_he)
        return Outputs(fake_ihc=fake_ihc, fake_he=fake_he, back_he=back_he, back_ihc=back_ihc)

    def terms(self, player: str, batch: Batch, outputs: Outputs, decisions: Decisions) -> dict[str, Tensor]:
        """The weighted terms of a player, by name."""
        if player == GENERATORS:
            return self._generator_terms(batch, outputs)
        of_ihc, of_he = decisions.exchanges
        fake_ihc = self.pool.exchange(outputs.fake_ihc, of_ihc)
        fake_he = self.pool_he.exchange(outputs.fake_he, of_he)
        score, score_he = self.discriminator, self.discriminator_he
        return adversarial_pair(self.objective, real=score(batch.ihc), fake=score(fake_ihc)) | adversarial_pair(
            self.objective, real=score_he(batch.he), fake=score_he(fake_he), of="discriminator_he"
        )

    def _generator_terms(self, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        values = {
            ADVERSARIAL: self.objective(self.discriminator(outputs.fake_ihc), 1.0),
            "adversarial_he": self.objective(self.discriminator_he(outputs.fake_he), 1.0),
            "cycle_he": absolute(outputs.back_he, batch.he),
            "cycle_ihc": absolute(outputs.back_ihc, batch.ihc),
            "identity_ihc": absolute(self.generator(batch.ihc), batch.ihc),
            "identity_he": absolute(self.generator_he(batch.he), batch.he),
        }
        return {name: weight * values[name].mean() for name, weight in self.weights.items()}


CYCLEGAN = MethodEntry(
    title="CycleGAN",
    source="Zhu et al., Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, ICCV 2017",
    build=CycleGan,
    reads=(*GAN_SETTINGS, "weights.cycle", "weights.identity"),
    paper_row="CycleGAN",
)
