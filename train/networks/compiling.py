"""Passes of a network through `torch.compile`, and what is done where that cannot be.

The power iteration of spectral norm stays outside of what is compiled: a step runs a network several times before it
goes backward, and each pass needs the weights that it had (`SpectralConv2d`).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from train.networks.spectral_norm import settled_weights

T = TypeVar("T")


class Runner(Protocol):
    """How a network runs one of its passes on a picture."""

    def __call__(self, function: Callable[[Tensor], T], picture: Tensor, modules: Iterable[nn.Module]) -> T:
        """`function(picture)`, which runs through `modules` and no others."""
        ...


@runtime_checkable
class Runs(Protocol):
    """A network that lets a runner run its passes."""

    runner: Runner


def directly(function: Callable[[Tensor], T], picture: Tensor, modules: Iterable[nn.Module]) -> T:
    """As it is written."""
    return function(picture)


class Compiled:
    """Passes in training mode are compiled at their first call, each for the sides it sees; others run as they are."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._compiled: dict[str, Callable[[Tensor], Any]] = {}

    def __call__(self, function: Callable[[Tensor], T], picture: Tensor, modules: Iterable[nn.Module]) -> T:
        """`function(picture)`, `function` being a method of the network."""
        if not self._network.training:
            return function(picture)
        name = function.__qualname__
        if name not in self._compiled:
            self._compiled[name] = torch.compile(function, dynamic=False)
        with settled_weights(modules):
            return cast(T, self._compiled[name](picture))


def compile_passes(modules: Mapping[str, nn.Module], rehearse: Callable[[], None]) -> str:
    """Let the networks run compiled, and `rehearse` a step so that all is compiled now; returns why not, if not.

    What the rehearsal changed in the networks is brought back, and if it fails they run as they are written.
    """
    networks = [module for module in modules.values() if isinstance(module, Runs)]
    before = {name: copy.deepcopy(module.state_dict()) for name, module in modules.items()}
    for network in networks:
        network.runner = Compiled(cast(nn.Module, network))
    reason = ""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "The .grad attribute of a Tensor", UserWarning
            )  # a divided weight has none
            rehearse()
    except Exception as error:  # whatever the compiler, or the compiler that it calls, could not do
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        for network in networks:
            network.runner = directly
    for name, module in modules.items():
        module.load_state_dict(before[name])
        for parameter in module.parameters():
            parameter.grad = None
    return reason
