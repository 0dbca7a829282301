"""What a method is, what is known of it before it is built, and the loss that every discriminator has.

A method owns networks and names its loss terms. It knows no optimiser, device, file, epoch or logger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from train.data.batch import Batch
from train.methods.decisions import Decisions
from train.settings import TrainSettings

DISCRIMINATOR, GENERATOR = "discriminator", "generator"  # names of players
ADVERSARIAL = "adversarial"  # the name of a generator's term, and of its weight
METHOD_SETTINGS = ("initial", "objective", "generator", "discriminator", "contrast", "weights", "asp")
"""Settings of a method, not of the loop: each method says which of them it reads."""
AT_TEST = "generator.at_test"  # the exception: every generator is used in this mode
GAN_SETTINGS = ("initial", "objective", "generator", "discriminator", "weights.adversarial")
"""Those that a method with both networks reads."""
OutputsT = TypeVar("OutputsT")


class Method(Protocol[OutputsT]):
    """A model with its loss terms."""

    players: tuple[str, ...]
    """The players of a step, in the published order: each has its own optimiser."""
    multiple: int
    """The sides of pictures must be multiples of it, px."""
    needs_pairs: bool
    """Whether a term compares a translation with the IHC of the same place."""
    weights: dict[str, float]
    """The weight of each term of the generator, by the term's name."""
    input_channels: dict[str, int]
    """Channels of the picture that a network takes, by its name in `modules`; other modules take no picture."""

    @property
    def generator(self) -> nn.Module:
        """The network that turns H&E into IHC."""
        ...

    def modules(self) -> dict[str, nn.Module]:
        """Everything that has state, under the names that checkpoints use."""
        ...

    def owned(self, player: str) -> list[nn.Module]:
        """The modules that a player trains; all others are frozen meanwhile."""
        ...

    def check_side(self, side: int) -> None:
        """Refuse pictures of a side, px, that the networks cannot train on. Raises SettingsError."""
        ...

    def decide(self, rows: int, side: int, progress: float, generator: torch.Generator) -> Decisions:
        """All that is random or scheduled in a step of `rows` pairs of `side` px at `progress` in [0,1).

        `generator` is the step's randomness, on the CPU.
        """
        ...

    def generate(self, batch: Batch, decisions: Decisions) -> OutputsT:
        """The forward pass that all players share, once per step."""
        ...

    def terms(self, player: str, batch: Batch, outputs: OutputsT, decisions: Decisions) -> dict[str, Tensor]:
        """A player's weighted terms, [] each. Like `generate` it draws nothing and never waits for the device."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEntry:
    """What is known of a method before it is built. `train/methods/registry.py` names all entries."""

    title: str
    """The name in papers."""
    source: str
    """The paper: title, venue, year."""
    build: Callable[[TrainSettings], Method[Any]]
    """Makes the method with fresh networks. Raises SettingsError where settings do not go together."""
    reads: tuple[str, ...]
    """Which of METHOD_SETTINGS it reads: whole groups ("contrast") and single settings ("weights.l1")."""
    paper_row: str | None = None
    """Its row in the tables of the target paper, if it has one."""

    def __post_init__(self) -> None:
        unknown = [key for key in self.reads if key.partition(".")[0] not in METHOD_SETTINGS]
        assert not unknown, f"{self.title} reads {unknown}: only {', '.join(METHOD_SETTINGS)} depend on the method"

    def reads_setting(self, key: str) -> bool:
        """Whether the method reads a setting such as `weights.l1`; true for settings of the loop."""
        if key == AT_TEST or key.partition(".")[0] not in METHOD_SETTINGS:
            return True
        return any(key == read or key.startswith(f"{read}.") for read in self.reads)


def adversarial_pair(
    objective: Callable[[Tensor, float], Tensor], *, fake: Tensor, real: Tensor, of: str = DISCRIMINATOR
) -> dict[str, Tensor]:
    """A discriminator's two terms: half the objective, with target 0 for fake and 1 for real pictures.

    fake, real: logits [B,1,h,w]. Source: all repositories compared here.
    """
    return {
        f"{of}_fake": 0.5 * objective(fake, 0.0).mean(),
        f"{of}_real": 0.5 * objective(real, 1.0).mean(),
    }
