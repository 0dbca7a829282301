"""What a method is, and the literal table of all methods.

A method owns networks and says what its terms are. It knows no optimiser, device, file, epoch or logger.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from store.schema import SettingsError
from train.methods.base import Method
from train.methods.contrastive import asp, attention_gan, cut, cut_paired, fastcut
from train.methods.cyclegan import CycleGan
from train.methods.pix2pix import pix2pix, pyramid_p2p
from train.settings import TrainSettings

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
