"""One optimisation step: the players step in the method's order, each with its optimiser, while the others are frozen.

The randomness of a step is a function of (seed, step), so that a checkpoint needs no random state. What a method draws
is decided before the step; dropout alone draws within it.
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
from train.loop.ema import Ema
from train.loop.undo import Undo, is_broken, step_unless
from train.methods.base import Method
from train.methods.decisions import Decisions
from train.run.metrics import Terms
from train.runtime.device import Compute
from train.runtime.distributed import average_
from train.settings import OptimiserSettings


def make_optimisers(method: Method[Any], settings: OptimiserSettings, *, fused: bool) -> dict[str, Optimizer]:
    """An Adam for each player that has something to train. On a GPU it has its learning rate there, for a graph."""
    trained = {player: trained_by(method, player) for player in method.players}
    return {player: _make_adam(parameters, settings, fused) for player, parameters in trained.items() if parameters}


def trained_by(method: Method[Any], player: str) -> list[nn.Parameter]:
    """What a player trains: all that it owns and that is not frozen."""
    return [parameter for parameter in _parameters(method.owned(player)) if parameter.requires_grad]


def _make_adam(parameters: list[nn.Parameter], settings: OptimiserSettings, fused: bool) -> Adam:
    rate, cuda = settings.learning_rate, parameters[0].is_cuda
    adam = Adam(
        parameters,
        lr=torch.tensor(rate, dtype=torch.float32, device=parameters[0].device) if cuda else rate,
        betas=(settings.beta1, settings.beta2),
        fused=fused,
        capturable=cuda,
    )
    adam._warned_capturable_if_run_uncaptured = True  # its first steps are not captured
    return adam


class OptimisationStep:
    """The step of a method: a function of batches and decisions that updates every player once, in place.

    It never waits for a device, and what it changes or reads keeps its address, so that a graph can hold it. A gradient
    longer than `clip`, unless `clip` is 0, is shortened to it; `emas` take in the generator. Make it when a checkpoint
    is loaded.
    """

    def __init__(
        self,
        method: Method[Any],
        optimisers: Mapping[str, Optimizer],
        compute: Compute,
        *,
        clip: float = 0.0,
        emas: Sequence[Ema] = (),
    ) -> None:
        self.method, self.optimisers, self.compute = method, optimisers, compute
        self.clip, self.emas = clip, emas
        self.undo = Undo(method, optimisers)

    def __call__(self, batches: Sequence[Batch], decisions: Sequence[Decisions]) -> Terms:
        """Update every player with the mean gradient of all batches and of all processes.

        The shared forward pass of each batch stays in memory until the last player has stepped; the terms of a batch
        are freed before those of the next are computed. If a term or a gradient of any player is not finite, networks,
        optimisers and pools stay as they are (`is_broken`). Returns the terms, each the mean over the batches, and the
        length of each player's gradient, as `gradient_<player>`; detached and still on the device. A player without an
        optimiser, as all that it owns is frozen, has terms, and a gradient of 0.
        """
        method, parts = self.method, list(zip(batches, decisions, strict=True))
        self.undo.begin()
        with self.compute.autocast():
            outputs = [method.generate(*part) for part in parts]
        reported: dict[str, Tensor] = {}
        for player in method.players:
            optimiser = self.optimisers.get(player)
            if optimiser:
                optimiser.zero_grad(set_to_none=True)
            of_batches: list[dict[str, Tensor]] = []
            for (batch, decided), output in zip(parts, outputs, strict=True):
                grad = torch.set_grad_enabled(optimiser is not None)
                with grad, frozen_except(method, player), self.compute.autocast():
                    terms = method.terms(player, batch, output, decided)
                if optimiser:
                    loss = torch.stack(list(terms.values())).sum()
                    (loss / len(parts)).backward()  # type: ignore[no-untyped-call]  # torch
                of_batches.append({name: term.detach() for name, term in terms.items()})
            means = {name: torch.stack([terms[name] for terms in of_batches]).mean() for name in of_batches[0]}
            first = next(iter(means.values()))
            length = average_and_clip(optimiser, self.clip) if optimiser else torch.zeros_like(first)
            reported |= means | {f"gradient_{player}": length}
            made = Terms.of(reported)
            broken = is_broken(made.values)
            if optimiser:
                self.undo.keep(player)
                step_unless(broken, optimiser)
        self.undo.undo_if(broken)
        for ema in self.emas:
            ema.update(method.generator, broken)
        return made


def trial_step(method: Method[Any], compute: Compute, batch: Batch) -> None:
    """All passes of a step, forward and backward, without updating anything."""
    decisions = method.decide(len(batch.he), batch.he.shape[3], 0.0, torch.Generator().manual_seed(0))
    with compute.autocast():
        outputs = method.generate(batch, decisions)
    for player in (player for player in method.players if trained_by(method, player)):
        with frozen_except(method, player), compute.autocast():
            terms = method.terms(player, batch, outputs, decisions)
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
