"""What is random or scheduled in a step, decided before the step computes.

A step then is a function of numbers alone, which a device can replay: it draws nothing and asks for no progress.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

Positions = list[Tensor]
"""Of each tap the chosen patches, int64 [P]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decisions:
    """The decisions for one batch. `mirrored` is a branch of the step; all others are numbers, made on the CPU.

    mirrored: whether what is translated is mirrored. positions: of each contrastive term. shares: of the ASP weights,
    1 - g(t) and g(t), float64 [2], as exact as Python's numbers. exchanges: with each image pool, int64 [2,N].
    """

    mirrored: bool = False
    positions: tuple[Positions, ...] = ()
    shares: Tensor = field(default_factory=lambda: torch.tensor((1.0, 0.0), dtype=torch.float64))
    exchanges: tuple[Tensor, ...] = ()

    @property
    def numbers(self) -> list[Tensor]:
        """Everything but the branch, in a fixed order."""
        return [*(chosen for of_term in self.positions for chosen in of_term), self.shares, *self.exchanges]

    def with_numbers(self, numbers: Sequence[Tensor]) -> Decisions:
        """The same branch with other `numbers`, such as those on a device."""
        left = iter(numbers)
        positions = tuple([next(left) for _ in of_term] for of_term in self.positions)
        return replace(self, positions=positions, shares=next(left), exchanges=tuple(left))
