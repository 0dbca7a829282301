"""The learning rate by epoch: constant, then linear towards 0. Epochs are counted from 1."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.optim import Optimizer

from train.settings import OptimiserSettings, RateStep


def learning_rate_factor(epoch: int, constant: int, decay: int, step: RateStep = RateStep.AFTER) -> float:
    """Factor of the learning rate in `epoch`: 1 for `constant` epochs, then linear towards 0 for `decay` epochs.

    Stepped after each epoch the factor stays above 0. Stepped before it, decay starts one epoch earlier and the last
    epoch has a rate of 0, as in the BCI repository.
    """
    done = epoch if step is RateStep.BEFORE else epoch - 1
    return 1 - max(0, done + 1 - constant) / (decay + 1)


def set_learning_rate(optimisers: Mapping[str, Optimizer], settings: OptimiserSettings, epoch: int) -> float:
    """Set the learning rate of `epoch` in every optimiser, and return it."""
    factor = learning_rate_factor(epoch, settings.constant_epochs, settings.decay_epochs, settings.rate_step)
    rate = settings.learning_rate * factor
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            if isinstance(group["lr"], Tensor):  # a graph reads it there
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
    return rate
