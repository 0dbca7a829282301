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
from train.attention_gan import attention_gan
from train.contrastive import asp, cut, cut_paired, fastcut
from train.cyclegan import CycleGan
from train.data import Batch
from train.paired import pix2pix, pyramid_p2p
from train.settings import TrainSettings

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


METHODS: dict[str, Callable[[TrainSettings], Method[Any]]] = {
    "pix2pix": pix2pix,
    "pyramid_p2p": pyramid_p2p,
    "cyclegan": CycleGan,
    "cut": cut,
    "cut_paired": cut_paired,
    "fastcut": fastcut,
    "asp": asp,
    "attention_gan": attention_gan,
}


def build_method(settings: TrainSettings) -> Method[Any]:
    """The method that the settings name, with fresh networks. Raises SettingsError where they do not go together."""
    method = METHODS[known(settings.method)](settings)
    if method.needs_pairs and not settings.data.paired:
        raise SettingsError(
            f"data.paired = false with method = {settings.method}: it compares a translation with the IHC of the same "
            "place; set data.paired=true, or take a method that does not, such as cut or cyclegan"
        )
    return method


def known(name: str) -> str:
    """The name of a method, if it is one. Raises SettingsError."""
    if name not in METHODS:
        nearest = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.0)[0]
        raise SettingsError(
            f"method = {name!r}: no such method; did you mean {nearest!r}? There are: {', '.join(METHODS)}"
        )
    return name


def check_multiple(side: int, multiple: int, what: str) -> None:
    """Refuse pictures (`what` says which) of a side, px, that the generator cannot halve evenly, with SettingsError."""
    if side % multiple:
        below, above = side // multiple * multiple, (side // multiple + 1) * multiple
        raise SettingsError(
            f"{what} have a side of {side} px; the generator needs a multiple of {multiple}, "
            f"such as {below or above}{f' or {above}' * bool(below)}: build the store with that, or, of a U-Net, lower "
            "generator.depth"
        )
