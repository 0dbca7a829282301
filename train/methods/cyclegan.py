"""CycleGAN: there and back again, two generators, two discriminators, no pairs.

Both generators move first, in one Adam; then both discriminators, in another, on fakes from a history.
Source: CycleGAN (ICCV 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from store.schema import SettingsError
from train.data.batch import Batch
from train.losses import OBJECTIVES, absolute
from train.methods.base import adversarial_pair
from train.networks.build import make_discriminator, make_generator
from train.networks.patchgan import check_side
from train.runtime.distributed import gather_rows, own_rows
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


CAPACITY = 50  # CycleGAN: pool_size


class ImageHistory(nn.Module):
    """Up to `capacity` fakes. It is a module for its state's sake, which is saved with the run.

    Sources: Shrivastava et al. (CVPR 2017); CycleGAN (ICCV 2017), ImagePool.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.capacity = capacity
        self.pictures: list[Tensor] = []

    def exchange(self, fakes: Tensor, generator: torch.Generator) -> Tensor:
        """New fakes [B,3,S,S] in, fakes to judge out, [B,3,S,S]; no gradient passes.

        Until it is full a fake is kept and given back. Then, with probability one half, a stored one is given instead
        and the new one takes its place. `generator` lives on the CPU: choosing waits for no device. Several processes
        keep one history, of the fakes of all: each holds a copy of it and gives back its own rows.
        """
        everyones = gather_rows(fakes.detach())
        return own_rows(torch.cat([self._exchange(fake, generator) for fake in torch.split(everyones, 1)]))

    def _exchange(self, fake: Tensor, generator: torch.Generator) -> Tensor:
        if len(self.pictures) < self.capacity:
            self.pictures.append(fake.clone())
            return fake
        if torch.rand((), generator=generator).item() < 0.5:
            return fake
        place = int(torch.randint(self.capacity, (), generator=generator))
        stored, self.pictures[place] = self.pictures[place], fake.clone()
        return stored.to(fake.device)

    def get_extra_state(self) -> list[Tensor]:
        """What `state_dict` keeps."""
        return self.pictures

    def set_extra_state(self, state: Any) -> None:
        """What `load_state_dict` brings back."""
        self.pictures = list(state)
