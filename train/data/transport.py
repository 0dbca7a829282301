"""How batches come from the processes that read them: through shared memory, or through a pipe where that has no room.

PyTorch moves a tensor into shared memory while it is sent, in a thread of the reading process: where that fails, the
batch is lost and the training process waits for ever. So it is moved before, where an error can be answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from store.cli import say
from store.machine.shared_memory import MORE, SHARED, free_shared, processes_fault, room_for_batches
from store.schema import MagstainError
from train.data.batch import RawBatch


class PackedBatch(NamedTuple):
    """A batch on its way: `pixels` in shared memory, or an array, whose bytes go through the pipe as `flips` do."""

    pixels: Tensor | NDArray[np.uint8]
    flips: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """How many processes read, and what is to be said about it."""

    processes: int
    note: str = ""


def plan_readers(processes: int, batch_bytes: int) -> Readers:
    """The processes that can read batches of so many bytes here: as many as are asked for, or none."""
    if not processes:
        return Readers(processes=0)
    if fault := processes_fault(processes):
        return Readers(
            processes=0,
            note=f"warning: the training process reads the store itself, as with data.workers=0, slower: {fault}",
        )
    needed, free = room_for_batches(processes, batch_bytes), free_shared()
    if free >= needed:
        return Readers(processes=processes)
    return Readers(
        processes=processes,
        note=(
            f"warning: {SHARED} has {free / 1e6:,.1f} MB free, and the batches of data.workers={processes} need up to "
            f"{needed / 1e6:,.1f} MB: those without room come through pipes, which is slower; {MORE}, or set fewer "
            "data.workers"
        ),
    )


def pack(batch: RawBatch | MagstainError) -> PackedBatch | MagstainError:
    """In the process that has read a batch: bring it where the training process can take it from."""
    if isinstance(batch, MagstainError):
        return batch
    try:
        batch.pixels.share_memory_()  # type: ignore[no-untyped-call]  # torch
        return PackedBatch(batch.pixels, batch.flips.numpy())
    except (RuntimeError, OSError):  # no room, or no file handle left
        return PackedBatch(batch.pixels.numpy(), batch.flips.numpy())


class Unpacker:
    """In the training process: the batches as they were read, in pinned memory if the device wants that."""

    def __init__(self, *, pin: bool) -> None:
        self._pin = pin
        self._said = False

    def __call__(self, packed: PackedBatch) -> RawBatch:
        """A batch; says once if it came through a pipe."""
        pixels = packed.pixels
        if not isinstance(pixels, Tensor):
            pixels = self._landed(torch.from_numpy(pixels))
            if not self._said:
                say(f"note: {SHARED} has no room for a batch: batches come through pipes, which is slower; {MORE}")
            self._said = True
        return RawBatch(pixels, self._landed(torch.from_numpy(packed.flips)))

    def _landed(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self._pin else tensor
