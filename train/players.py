"""One optimisation step: players move in the method's order, each with its optimiser, while the others are frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from train.data import Batch
from train.device import Compute
from train.losses import learning_rate_factor
from train.methods import Method
from train.settings import OptimiserSettings


def take_step(
    method: Method[Any],
    optimisers: Mapping[str, Optimizer],
    compute: Compute,
    batch: Batch,
    progress: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """One move of every player; returns all terms, detached and still on the device."""
    with compute.autocast():
        outputs = method.generate(batch, generator)
    reported: dict[str, Tensor] = {}
    for player in method.players:
        with frozen_except(method, player), compute.autocast():
            terms = method.terms(player, batch, outputs, progress, generator)
        optimiser = optimisers[player]
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
        reported |= {name: term.detach() for name, term in terms.items()}
    return reported


@contextmanager
def frozen_except(method: Method[Any], player: str) -> Iterator[None]:
    """While terms are computed, only what the player owns asks for gradients; no others are computed or kept."""
    owned = {id(parameter) for module in method.owned(player) for parameter in module.parameters()}
    others = [p for p in _parameters(method.modules().values()) if id(p) not in owned and p.requires_grad]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def step_generator(seed: int, step: int) -> torch.Generator:
    """The randomness of a step, a function of (seed, step): a continued run draws what the uninterrupted one draws."""
    state = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))  # PyTorch takes 63 bits


def make_optimisers(method: Method[Any], settings: OptimiserSettings, *, fused: bool) -> dict[str, Optimizer]:
    """An Adam for each player."""
    return {
        player: Adam(
            list(_parameters(method.owned(player))),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            fused=fused,
        )
        for player in method.players
    }


def set_learning_rate(optimisers: dict[str, Optimizer], settings: OptimiserSettings, epoch: int) -> float:
    """Give every optimiser the learning rate of an epoch, counted from 1, and return it."""
    factor = learning_rate_factor(epoch, settings.constant_epochs, settings.decay_epochs, settings.rate_step)
    rate = settings.learning_rate * factor
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = rate
    return rate


def _parameters(modules: Iterable[nn.Module]) -> Iterator[nn.Parameter]:
    for module in modules:
        yield from module.parameters()
