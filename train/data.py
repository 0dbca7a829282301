"""From the store to the device: the pictures that draws name, as batches in [-1, 1].

Pictures stay u8 until they are on the device; conversion and flip happen there, and both stains of a pair get the same
geometry.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Generator
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from store.reader import TILE, Store
from store.schema import MagstainError, Split, Stain
from store.signals import WATCHED
from train.order import Draw, Look, Order


@dataclass(frozen=True, slots=True)
class Batch:
    """A pair per row: what goes in and what should come out, both signed [B,3,S,S]."""

    he: Tensor
    ihc: Tensor


class Reading(NamedTuple):
    """A batch as it leaves the store: `pixels` u8 [2,B,3,S,S] (he, ihc), `flips` bool [2,B]."""

    pixels: Tensor
    flips: Tensor


class Pictures(Dataset[Any]):
    """The train pictures that draws name, read where the loader asks: a worker opens the store for itself."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitems__(self, drawn: list[Draw]) -> Reading | MagstainError:
        """A batch. An error is handed over as a value, so that it crosses processes without its trace."""
        side = self.store.manifest.view_side
        pixels = torch.empty((2, len(drawn), 3, side, side), dtype=torch.uint8)
        try:
            for row, draw in enumerate(drawn):
                self._read(draw.he, Stain.HE, pixels[0, row])
                self._read(draw.ihc, Stain.IHC, pixels[1, row])
        except MagstainError as error:
            return error
        return Reading(pixels, torch.tensor([[d.he.flip for d in drawn], [d.ihc.flip for d in drawn]]))

    def _read(self, look: Look, stain: Stain, out: Tensor) -> None:
        """One picture into `out`, u8 [3,S,S]; of a tile, the crop that the draw says."""
        if look.view != TILE:
            self.store.planes(Split.TRAIN, look.view, stain, look.pair, look.index, out=out.numpy())
            return
        side = out.shape[-1]
        tile = self.store.planes(Split.TRAIN, TILE, stain, look.pair)
        top, left = (int(share * (tile.shape[-1] - side + 1)) for share in look.crop)
        out.numpy()[:] = tile[:, top : top + side, left : left + side]


def read_batches(store: Store, order: Order, *, done: int, workers: int, pin: bool) -> Generator[Reading]:
    """The batches after `done` steps, read by `workers` processes that live as long as the run (0: by this one)."""
    loader = DataLoader(
        Pictures(store),
        batch_sampler=order.batches(done),
        num_workers=workers,
        collate_fn=_as_is,  # type: ignore[arg-type]  # a batch is read as a whole, not collated from a list
        pin_memory=pin,
        generator=torch.Generator(),  # the loader would draw from the global generator
        multiprocessing_context=_fork_clean() if workers else None,
        worker_init_fn=_leave_signals_to_the_parent,
    )
    for reading in loader:
        if isinstance(reading, MagstainError):
            raise reading
        yield cast(Reading, reading)


def to_batch(reading: Reading, device: torch.device) -> Batch:
    """Move a reading to the device as u8; convert to x / 127.5 - 1 and flip there, channels last."""
    pixels = reading.pixels.to(device, non_blocking=True)
    flips = reading.flips.to(device, non_blocking=True)[:, :, None, None, None]
    signed = to_signed(torch.where(flips, pixels.flip(-1), pixels))
    he, ihc = (stain.contiguous(memory_format=torch.channels_last) for stain in signed)
    return Batch(he=he, ihc=ihc)


def to_signed(pixels: Tensor) -> Tensor:
    """0..255 bytes of any shape as float32 in [-1, 1]."""
    return pixels.to(torch.float32) / 127.5 - 1


def _fork_clean() -> BaseContext:
    """Workers come from a server that has imported torch and no more: no handle or lock of ours is carried over."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _as_is(reading: Reading | MagstainError) -> Reading | MagstainError:
    return reading


def _leave_signals_to_the_parent(_worker: int) -> None:
    """A signal to the whole process group must not take the workers away before the parent has saved."""
    for number in WATCHED:
        signal.signal(number, signal.SIG_IGN)
