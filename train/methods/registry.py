"""The literal table of all methods, and how one is built from settings."""

from __future__ import annotations

import difflib
from typing import Any

from store.schema import SettingsError
from store.untrusted.documents import shorten
from train.methods.asp import ASP
from train.methods.attention_gan import ATTENTION_GAN
from train.methods.base import Method, MethodEntry
from train.methods.cut import CUT, CUT_PAIRED, FASTCUT
from train.methods.cyclegan import CYCLEGAN
from train.methods.pix2pix import PIX2PIX, PYRAMID_P2P
from train.settings import TrainSettings

METHODS: dict[str, MethodEntry] = {
    "pix2pix": PIX2PIX,
    "pyramid_p2p": PYRAMID_P2P,
    "cyclegan": CYCLEGAN,
    "cut": CUT,
    "cut_paired": CUT_PAIRED,
    "fastcut": FASTCUT,
    "asp": ASP,
    "attention_gan": ATTENTION_GAN,
}
"""A new method is a file with its entry, and a line here."""


def find_method(name: str) -> MethodEntry:
    """The entry of a method. Raises SettingsError for a name that is none, with the nearest one."""
    if name not in METHODS:
        nearest = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.0)[0]
        raise SettingsError(
            f"method = {shorten(name)!r}: no such method; did you mean {nearest!r}? "
            f"The methods are {', '.join(METHODS)}"
        )
    return METHODS[name]


def build_method(settings: TrainSettings) -> Method[Any]:
    """The method that the settings name, with fresh networks. Raises SettingsError where they do not go together."""
    method = find_method(settings.method).build(settings)
    if method.needs_pairs and not settings.data.paired:
        raise SettingsError(
            f"data.paired = false with method = {settings.method}: it compares a translation with the IHC of the same "
            "place; set data.paired=true, or use a method that does not, such as cut or cyclegan"
        )
    return method


def check_multiple(side: int, multiple: int, what: str) -> None:
    """Refuse pictures (`what` names them) whose side, px, the generator cannot halve evenly. Raises SettingsError."""
    if side % multiple:
        below, above = side // multiple * multiple, (side // multiple + 1) * multiple
        raise SettingsError(
            f"{what} have a side of {side} px; the generator needs a multiple of {multiple}, such as "
            f"{below or above}{f' or {above}' * bool(below)}: build the store with that side, or, for a U-Net, lower "
            "generator.depth (`fit --adapt` does)"
        )
