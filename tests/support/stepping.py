"""A step as tests take it: decided and computed in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from train.data.batch import Batch
from train.loop.captured import settle
from train.loop.step import OptimisationStep
from train.methods.base import Method
from train.methods.decisions import Decisions
from train.runtime.device import Compute


def decide(method: Method[Any], batch: Batch, progress: float, generator: torch.Generator) -> Decisions:
    """What is random or scheduled in the step of a batch."""
    return method.decide(len(batch.he), batch.he.shape[3], progress, generator)


def take_step(
    method: Method[Any],
    optimisers: Mapping[str, Optimizer],
    compute: Compute,
    batches: Sequence[Batch],
    progress: float,
    generators: Sequence[torch.Generator],
    clip: float = 0.0,
) -> dict[str, Tensor]:
    """The terms of a step and the lengths of its gradients, by name, [] each."""
    step = OptimisationStep(method, optimisers, compute, clip=clip)
    parts = zip(batches, generators, strict=True)
    terms = step(batches, [decide(method, batch, progress, generator) for batch, generator in parts])
    settle(step, terms)
    return terms.by_name()
