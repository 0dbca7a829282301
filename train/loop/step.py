"""One optimisation step: players move in the method's order, each with its optimiser, while the others are frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from train.data.batch import Batch
from train.methods.base import Method
from train.runtime.device import Compute
from train.runtime.distributed import average_
from train.settings import OptimiserSettings, RateStep


def take_step(
    method: Method[Any],
    optimisers: Mapping[str, Optimizer],
    compute: Compute,
    batch: Batch,
    progress: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """One move of every player on one batch; returns all terms, detached and still on the device."""
    return take_long_step(method, optimisers, compute, [batch], progress, [generator])


def take_long_step(
    method: Method[Any],
    optimisers: Mapping[str, Optimizer],
    compute: Compute,
    batches: Sequence[Batch],
    progress: float,
    generators: Sequence[torch.Generator],
    clip: float = 0.0,
) -> dict[str, Tensor]:
    """One move of every player by the mean gradient of several batches, and of those of all processes.

    What a batch keeps until its last player has moved is the shared forward pass; the terms of a batch are gone before
    those of the next are computed. A gradient longer than `clip`, if that is not 0, is shortened to it. Returns the
    terms, each the mean over the batches, and the length of each player's gradient, detached and still on the device.
    """
    with compute.autocast():
        outputs = [method.generate(batch, generator) for batch, generator in zip(batches, generators, strict=True)]
    reported: dict[str, Tensor] = {}
    for player in method.players:
        optimiser = optimisers[player]
        optimiser.zero_grad(set_to_none=True)
        told: list[dict[str, Tensor]] = []
        for batch, output, generator in zip(batches, outputs, generators, strict=True):
            with frozen_except(method, player), compute.autocast():
                terms = method.terms(player, batch, output, progress, generator)
            loss = torch.stack(list(terms.values())).sum()
            (loss / len(batches)).backward()  # type: ignore[no-untyped-call]  # torch
            told.append({name: term.detach() for name, term in terms.items()})
        reported |= {name: torch.stack([terms[name] for terms in told]).mean() for name in told[0]}
        reported[f"gradient_{player}"] = settle_gradients(optimiser, clip)
        optimiser.step()
    return reported


def rehearse_step(method: Method[Any], compute: Compute, batch: Batch) -> None:
    """All passes of a step, forward and backward; nobody moves."""
    generator = torch.Generator().manual_seed(0)
    with compute.autocast():
        outputs = method.generate(batch, generator)
    for player in method.players:
        with frozen_except(method, player), compute.autocast():
            terms = method.terms(player, batch, outputs, 0.0, generator)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch


def settle_gradients(optimiser: Optimizer, clip: float) -> Tensor:
    """Average a player's gradients over all processes and shorten them to `clip`; returns their length before, []."""
    gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    average_(gradients)
    length: Tensor = nn.utils.get_total_norm(gradients)
    if clip:
        torch._foreach_mul_(gradients, (clip / length).clamp(max=1.0))
    return length


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


def step_generator(seed: int, step: int, part: int = 0) -> torch.Generator:
    """The randomness of a step, a function of (seed, step): a continued run draws what the uninterrupted one draws.

    Of several batches in a row each has its own; batches of different processes at the same place share one.
    """
    return torch.Generator().manual_seed(_key(seed, step, *(part,) * bool(part)))


def seed_layers(seed: int, step: int, rank: int) -> None:
    """Dropout takes no generator: give PyTorch's own, which is the run's, the randomness of a step and process."""
    torch.manual_seed(_key(seed, step, 0, rank))


def _key(*entropy: int) -> int:
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))  # PyTorch takes 63 bits


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


def learning_rate_factor(epoch: int, constant: int, decay: int, step: RateStep = RateStep.AFTER) -> float:
    """Factor of the learning rate in `epoch`, counted from 1: 1 while constant, then linear towards 0.

    Stepped behind each epoch it stays short of 0; stepped before it, decay begins one epoch earlier and the last epoch
    has a rate of 0, as in the BCI repository.
    """
    done = epoch if step is RateStep.BEFORE else epoch - 1
    return 1 - max(0, done + 1 - constant) / (decay + 1)


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
