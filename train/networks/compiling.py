"""Passes of a network through `torch.compile`, and without it where compiling fails.

The power iteration of spectral norm stays outside the compiled part: a step runs a network several times before its
backward pass, and each pass needs the weights that it started with (`SpectralConv2d`).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

from train.kernels import launching
from train.networks.spectral_norm import precomputed_weights

T = TypeVar("T")


class Runner(Protocol):
    """How a network runs one of its passes on a picture."""

    def __call__(self, function: Callable[[Tensor], T], picture: Tensor, modules: Iterable[nn.Module]) -> T:
        """`function(picture)`, which uses `modules` and no others."""
        ...


@runtime_checkable
class HasRunner(Protocol):
    """A network whose passes go through a runner."""

    runner: Runner


def run_eagerly(function: Callable[[Tensor], T], picture: Tensor, modules: Iterable[nn.Module]) -> T:
    """The pass without compiling; fused kernels compute the weights of all its layers first."""
    if not launching.takes(picture):
        return function(picture)
    with precomputed_weights(modules):
        return function(picture)


class CompiledRunner:
    """Compiles passes in training mode at their first call, for each side of pictures; other passes run eagerly."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._compiled: dict[str, Callable[[Tensor], Any]] = {}

    def __call__(self, function: Callable[[Tensor], T], picture: Tensor, modules: Iterable[nn.Module]) -> T:
        """`function(picture)`, where `function` is a method of the network."""
        if not self._network.training:
            return function(picture)
        name = function.__qualname__
        if name not in self._compiled:
            self._compiled[name] = torch.compile(function, dynamic=False)
        with precomputed_weights(modules):
            return cast(T, self._compiled[name](picture))


def compile_passes(modules: Mapping[str, nn.Module], try_step: Callable[[], None]) -> str:
    """Let the networks run compiled; `try_step` runs every pass once, so that all is compiled now.

    Returns the reason where compiling fails, and then the networks run eagerly; "" where it works. The state of the
    networks is afterwards the same as before.
    """
    networks = [module for module in modules.values() if isinstance(module, HasRunner)]
    before = {name: copy.deepcopy(module.state_dict()) for name, module in modules.items()}
    for network in networks:
        network.runner = CompiledRunner(cast(nn.Module, network))
    reason = ""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "The .grad attribute of a Tensor", UserWarning
            )  # a weight that spectral norm divides has none
            try_step()
    except Exception as error:  # anything that the compiler, or the C++ compiler it calls, cannot do
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        for network in networks:
            network.runner = run_eagerly
    for name, module in modules.items():
        module.load_state_dict(before[name])
        for parameter in module.parameters():
            parameter.grad = None
    return reason
