"""Copying many tensors at once, if a flag on the device says so: one launch, which ends at once where it does not.

The plain twin is `put_back_if` in `train/loop/undo.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

WORDS = 4096  # that a program copies


@triton.jit
def _copy_words_if(flag, table, WORD: tl.constexpr, WORDS: tl.constexpr):
    if tl.load(flag) != 0:
        row = table + 3 * tl.program_id(0)  # address of the target, address of the source, words
        offsets = tl.arange(0, WORDS)
        inside = offsets < tl.load(row + 2)
        targets = tl.load(row).to(tl.pointer_type(WORD)) + offsets
        sources = tl.load(row + 1).to(tl.pointer_type(WORD)) + offsets
        tl.store(targets, tl.load(sources, mask=inside), mask=inside)


class ConditionalCopy:
    """Copies `sources` to `targets`, of the same shapes, types and strides. Both must stay where they are."""

    def __init__(self, targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
        self._kept = (list(targets), list(sources))
        device = targets[0].device
        rows: dict[int, list[tuple[int, int, int]]] = {4: [], 1: []}
        for target, source in zip(targets, sources, strict=True):
            size = 4 if target.nbytes % 4 == target.data_ptr() % 4 == source.data_ptr() % 4 == 0 else 1
            rows[size] += _chunks(target, source, size)
        self._tables = {size: torch.tensor(found).to(device) for size, found in rows.items() if found}

    def __call__(self, flag: Tensor) -> None:
        """Copy if `flag`, bool []."""
        for size, table in self._tables.items():
            word = tl.int32 if size == 4 else tl.int8
            _copy_words_if[(len(table),)](flag.view(torch.uint8), table, WORD=word, WORDS=WORDS)


def fits(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> bool:
    """Whether each pair lies in memory in the same way, without gaps."""
    return all(
        target.stride() == source.stride() and _is_dense(target)
        for target, source in zip(targets, sources, strict=True)
    )


def _is_dense(tensor: Tensor) -> bool:
    if not tensor.numel():
        return True
    reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return reach == tensor.numel()


def _chunks(target: Tensor, source: Tensor, size: int) -> Iterator[tuple[int, int, int]]:
    count = target.nbytes // size
    for first in range(0, count, WORDS):
        yield target.data_ptr() + first * size, source.data_ptr() + first * size, min(WORDS, count - first)
