"""What a method is, and what methods have in common.

A method owns networks and says what its terms are. It knows no optimiser, device, file, epoch or logger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from train.data.batch import Batch

DISCRIMINATOR, GENERATOR = "discriminator", "generator"  # the players' names
OutputsT = TypeVar("OutputsT")


class Method(Protocol[OutputsT]):
    """A model with its terms. `modules()["generator"]` is the network that turns he into ihc."""

    players: tuple[str, ...]
    """Who moves, in the published order."""
    multiple: int
    """Sides of pictures that the generator takes divide by it."""
    needs_pairs: bool
    """Whether a term compares a translation with the IHC of the same place."""
    weights: dict[str, float]
    """The weight of each term that the moves of generators add up, by the term's name."""

    def modules(self) -> dict[str, nn.Module]:
        """Everything that has state."""
        ...

    def owned(self, player: str) -> list[nn.Module]:
        """The modules whose parameters a player moves; all others are frozen meanwhile."""
        ...

    def check_side(self, side: int) -> None:
        """Refuse pictures of a side, px, that the networks cannot train on. Raises SettingsError."""
        ...

    def generate(self, batch: Batch, generator: torch.Generator) -> OutputsT:
        """The forward pass that all players share, once per step; `generator` is the step's randomness."""
        ...

    def terms(
        self, player: str, batch: Batch, outputs: OutputsT, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """A player's weighted scalars by name; `progress` in [0,1), `generator` goes on where `generate` left it."""
        ...


def adversarial_pair(
    objective: Callable[[Tensor, float], Tensor], *, fake: Tensor, real: Tensor, of: str = DISCRIMINATOR
) -> dict[str, Tensor]:
    """A discriminator's terms: half of each verdict's distance, 0 asked of fakes and 1 of real pictures.

    Verdicts [B,1,h,w]. Source: all repositories compared here.
    """
    return {
        f"{of}_fake": 0.5 * objective(fake, 0.0).mean(),
        f"{of}_real": 0.5 * objective(real, 1.0).mean(),
    }
