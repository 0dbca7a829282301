"""What stays as it started: the setting `freeze` names networks of a method, or modules in them.

A frozen part computes as it does in translation (`generator.at_test`): spectral norm makes no iteration and keeps its
vectors, and batch norm keeps its running statistics and uses those of the pictures only where translation does.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from store.schema import SettingsError
from store.untrusted.documents import shorten
from train.loop.step import trained_by
from train.methods.base import Method
from train.run.inference import set_translating
from train.settings import AtTest


def freeze(method: Method[Any], names: Sequence[str], mode: AtTest) -> dict[str, int]:
    """Let these parts stay as they are; returns how many parameters of each network do, if any.

    Raises SettingsError for a name that is no part with parameters, and if nothing is left to train. A player that has
    nothing to train takes no steps, and its terms are still reported.
    """
    networks = method.modules()
    parts = _parts(networks)
    for name in names:
        if name not in parts:
            raise SettingsError(_unknown(name, networks, parts))
        parts[name].requires_grad_(False)
        set_translating(parts[name], mode)
    if not any(trained_by(method, player) for player in method.players):
        raise SettingsError(f"freeze = {_listed(names)}: nothing is left to train; name fewer parts")
    held = {
        name: sum(p.numel() for p in network.parameters() if not p.requires_grad) for name, network in networks.items()
    }
    return {name: count for name, count in held.items() if count}


def _parts(networks: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Every module with parameters, by the name of its network and its own: `generator`, `generator.blocks.0`."""
    return {
        f"{name}.{path}" if path else name: module
        for name, network in networks.items()
        for path, module in network.named_modules()
        if next(module.parameters(), None) is not None
    }


def _unknown(name: str, networks: Mapping[str, nn.Module], parts: Mapping[str, nn.Module]) -> str:
    nearest = difflib.get_close_matches(name[:200], parts, n=3, cutoff=0.6)
    asked = f"; did you mean {' or '.join(map(repr, nearest))}?" if nearest else "."
    trained = [network for network in networks if network in parts]
    within = ", ".join(part for part in parts if part.count(".") == 1 and part.startswith("generator."))
    return (
        f"freeze = {shorten(ascii(name))}: no part with weights has this name{asked} "
        f"The networks are {', '.join(trained)}; parts of the generator are {within}, and what is in them"
    )


def _listed(names: Sequence[str]) -> str:
    return shorten(f"[{', '.join(map(ascii, names))}]")
