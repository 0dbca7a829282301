"""What a method is, and the literal table of all methods.

A method owns networks and says what its terms are. It knows no optimiser, device, file, epoch or logger.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from store.schema import SettingsError
from train.attention_gan import AttentionGan
from train.data import Batch
from train.settings import TrainSettings

OutputsT = TypeVar("OutputsT")


class Method(Protocol[OutputsT]):
    """A model with its terms. `modules()["generator"]` is the network that turns he into ihc."""

    players: tuple[str, ...]
    """Who moves, in the published order."""
    multiple: int
    """Sides of pictures that the generator takes divide by it."""

    def modules(self) -> dict[str, nn.Module]:
        """Everything that has state."""
        ...

    def owned(self, player: str) -> list[nn.Module]:
        """The modules whose parameters a player moves; all others are frozen meanwhile."""
        ...

    def check_side(self, side: int) -> None:
        """Refuse pictures of a side, px, that the networks cannot train on. Raises SettingsError."""
        ...

    def generate(self, batch: Batch) -> OutputsT:
        """The forward pass that all players share, once per step."""
        ...

    def terms(
        self, player: str, batch: Batch, outputs: OutputsT, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """A player's weighted scalars by name; `progress` in [0,1), `generator` is the step's randomness."""
        ...


METHODS: dict[str, Callable[[TrainSettings], Method[Any]]] = {
    "attention_gan": AttentionGan,
}


def build_method(settings: TrainSettings) -> Method[Any]:
    """The method that the settings name, with fresh networks."""
    if settings.method not in METHODS:
        nearest = difflib.get_close_matches(settings.method, METHODS, n=1, cutoff=0.0)[0]
        raise SettingsError(
            f"method = {settings.method!r}: no such method; did you mean {nearest!r}? There are: {', '.join(METHODS)}"
        )
    return METHODS[settings.method](settings)


def check_multiple(side: int, multiple: int, what: str) -> None:
    """Refuse pictures (`what` says which) of a side, px, that the generator cannot halve evenly, with SettingsError."""
    if side % multiple:
        raise SettingsError(
            f"{what} have a side of {side} px; the generator needs a multiple of {multiple}, "
            f"such as {side // multiple * multiple} or {(side // multiple + 1) * multiple}: build the store with that"
        )
