"""What a step is given, in buffers on its device whose addresses stay: pictures as bytes, flips, decisions.

Bytes cross to the device as they are; numbers cross as one vector of eight-byte words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from train.data.batch import Batch, RawBatch
from train.data.loader import prepare
from train.methods.decisions import Decisions

Branches = tuple[bool, ...]
"""Of each part of a step, whether it is mirrored: the only choice that changes what is computed."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a tensor lies among the words."""

    first: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def of(self, words: Tensor) -> Tensor:
        """The tensor, a view of `words`, int64 [n]."""
        return words[self.first : self.first + prod(self.shape)].view(self.dtype).view(self.shape)


class Inputs:
    """Buffers for the parts of a step, shaped as the first ones are."""

    def __init__(self, raws: Sequence[RawBatch], decisions: Sequence[Decisions], device: torch.device) -> None:
        self.pixels = [torch.empty_like(raw.pixels, device=device) for raw in raws]
        self.slots: list[list[Slot]] = []
        first = 0
        for raw, decided in zip(raws, decisions, strict=True):
            self.slots.append([])
            for number in _numbers(raw, decided):
                self.slots[-1].append(Slot(first, tuple(number.shape), number.dtype))
                first += number.numel()
        self.words = torch.empty(first, dtype=torch.int64, device=device)

    def fill(self, raws: Sequence[RawBatch], decisions: Sequence[Decisions]) -> None:
        """Take in the parts of the next step. On a GPU this returns at once: batches are pinned, and so is the copy."""
        for held, raw in zip(self.pixels, raws, strict=True):
            held.copy_(raw.pixels, non_blocking=True)
        numbers = [number for part in zip(raws, decisions, strict=True) for number in _numbers(*part)]
        words = torch.cat([number.reshape(-1).view(torch.int64) for number in numbers])
        self.words.copy_(words.pin_memory() if self.words.is_cuda else words, non_blocking=True)

    def read(self, decisions: Sequence[Decisions]) -> tuple[list[Batch], list[Decisions]]:
        """Batches, and decisions with the branches of the given ones: a part of the step, computed on the device."""
        batches, decided = [], []
        for pixels, slots, branch in zip(self.pixels, self.slots, decisions, strict=True):
            flips, *numbers = (slot.of(self.words) for slot in slots)
            batches.append(prepare(pixels, flips.bool()))
            decided.append(branch.with_numbers(numbers))
        return batches, decided


def branches_of(decisions: Sequence[Decisions]) -> Branches:
    """The branches that a step takes."""
    return tuple(decided.mirrored for decided in decisions)


def _numbers(raw: RawBatch, decided: Decisions) -> list[Tensor]:
    """All numbers of a part, eight bytes each: its flips as integers, and those of its decisions."""
    return [raw.flips.long(), *decided.numbers]
