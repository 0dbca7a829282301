"""One optimisation step: the players step in the method's order, each with its optimiser, while the others are frozen.

The randomness of a step is a function of (seed, step), so that a checkpoint needs no random state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from train.data.batch import Batch
from train.loop.undo import Undo, is_broken, step_unless
from train.methods.base import Method
from train.runtime.device import Compute
from train.runtime.distributed import average_
from train.settings import OptimiserSettings


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


def optimisation_step(
    method: Method[Any],
    optimisers: Mapping[str, Optimizer],
    compute: Compute,
    batches: Sequence[Batch],
    progress: float,
    generators: Sequence[torch.Generator],
    clip: float = 0.0,
) -> dict[str, Tensor]:
    """Update every player once, with the mean gradient of all batches and of all processes.

    The shared forward pass of each batch stays in memory until the last player has stepped; the terms of a batch are
    freed before those of the next are computed. A gradient longer than `clip`, unless `clip` is 0, is shortened to it.
    If a term or a gradient of any player is not finite, networks, optimisers and pools stay as they are (`is_broken`).
    Returns the terms, each the mean over the batches, and the length of each player's gradient, as
    `gradient_<player>`; all [], detached and still on the device.
    """
    undo = Undo(method.modules())
    with compute.autocast():
        outputs = [method.generate(batch, generator) for batch, generator in zip(batches, generators, strict=True)]
    reported: dict[str, Tensor] = {}
    for player in method.players:
        optimiser = optimisers[player]
        optimiser.zero_grad(set_to_none=True)
        of_batches: list[dict[str, Tensor]] = []
        for batch, output, generator in zip(batches, outputs, generators, strict=True):
            with frozen_except(method, player), compute.autocast():
                terms = method.terms(player, batch, output, progress, generator)
            loss = torch.stack(list(terms.values())).sum()
            (loss / len(batches)).backward()  # type: ignore[no-untyped-call]  # torch
            of_batches.append({name: term.detach() for name, term in terms.items()})
        reported |= {name: torch.stack([terms[name] for terms in of_batches]).mean() for name in of_batches[0]}
        reported[f"gradient_{player}"] = average_and_clip(optimiser, clip)
        broken = is_broken(reported)
        if player != method.players[-1]:
            undo.keep(optimiser)
        step_unless(broken, optimiser)
    undo.undo_if(broken)
    return reported


def trial_step(method: Method[Any], compute: Compute, batch: Batch) -> None:
    """All passes of a step, forward and backward, without updating anything."""
    generator = torch.Generator().manual_seed(0)
    with compute.autocast():
        outputs = method.generate(batch, generator)
    for player in method.players:
        with frozen_except(method, player), compute.autocast():
            terms = method.terms(player, batch, outputs, 0.0, generator)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch


def average_and_clip(optimiser: Optimizer, clip: float) -> Tensor:
    """Average a player's gradients over all processes and shorten them to `clip`; returns their length before, []."""
    gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    average_(gradients)
    length: Tensor = nn.utils.get_total_norm(gradients)
    if clip:
        torch._foreach_mul_(gradients, (clip / length).clamp(max=1.0))
    return length


@contextmanager
def frozen_except(method: Method[Any], player: str) -> Iterator[None]:
    """While terms are computed, only what the player owns needs gradients; no others are computed or saved."""
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
    """The randomness of a step: the same for a resumed run as for one that was never stopped.

    Each of several accumulated batches (`part`) has its own; the batches of different processes share one.
    """
    return torch.Generator().manual_seed(_key(seed, step, *(part,) * bool(part)))


def seed_layers(seed: int, step: int, rank: int) -> None:
    """Seed PyTorch's global generator for a step and process: dropout uses no other."""
    torch.manual_seed(_key(seed, step, 0, rank))


def _key(*entropy: int) -> int:
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))  # PyTorch takes 63 bits


def _parameters(modules: Iterable[nn.Module]) -> Iterator[nn.Parameter]:
    for module in modules:
        yield from module.parameters()
