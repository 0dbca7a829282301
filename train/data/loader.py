"""From the store to the device: the pictures that draws name, as batches in [-1, 1].

Pictures stay u8 until they are on the device; conversion and flip happen there, and both stains of a pair get the same
geometry.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from store.images import interleave
from store.process import WATCHED, keep_freed_memory
from store.reader import TILE, Store
from store.schema import MagstainError, RunError, Split, Stain
from train.data.batch import Batch, to_signed
from train.data.block_sampling import plan_all_reads
from train.data.sampling import Draw, Look, Order


class Reading(NamedTuple):
    """A batch as it leaves the store: `pixels` u8 [2,B,S,S,3] (he, ihc), `flips` bool [2,B]."""

    pixels: Tensor
    flips: Tensor


class Pictures(Dataset[Any]):
    """The train pictures that draws name, read where the loader asks: a worker opens the store for itself."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitems__(self, drawn: list[Draw]) -> Reading | MagstainError:
        """A batch. An error is handed over as a value, so that it crosses processes without its trace."""
        side = self.store.manifest.view_side
        pixels = torch.empty((2, len(drawn), side, side, 3), dtype=torch.uint8)
        try:
            self._read([draw.he for draw in drawn], Stain.HE, pixels[0])
            self._read([draw.ihc for draw in drawn], Stain.IHC, pixels[1])
        except MagstainError as error:
            return error
        return Reading(pixels, torch.tensor([[d.he.flip for d in drawn], [d.ihc.flip for d in drawn]]))

    def _read(self, looks: list[Look], stain: Stain, out: Tensor) -> None:
        """Pictures of one stain into `out`, u8 [B,S,S,3], view by view."""
        for view in dict.fromkeys(look.view for look in looks):
            rows = [row for row, look in enumerate(looks) if look.view == view]
            side = self.store.side(view)
            planes = np.empty((len(rows), 3, side, side), np.uint8)
            places = [(looks[row].pair, looks[row].index) for row in rows]
            self.store.many_planes(Split.TRAIN, view, stain, places, list(planes))
            for row, picture in zip(rows, planes, strict=True):
                interleave(_crop(picture, looks[row], out.shape[1]) if view == TILE else picture, out[row].numpy())


def _crop(tile: NDArray[np.uint8], look: Look, side: int) -> NDArray[np.uint8]:
    """What a draw shows of a tile, [3,T,T] -> [3,side,side]."""
    top, left = (int(share * (tile.shape[-1] - side + 1)) for share in look.crop)
    return tile[:, top : top + side, left : left + side]


def read_batches(
    store: Store, order: Order, *, done: int, workers: int, pin: bool, rank: int = 0
) -> Generator[Reading]:
    """A process's batches after `done` steps, read by `workers` others that live as long as the run (0: by itself).

    Raises StoreError for what cannot be read, and RunError if a reading process died.
    """
    if order.block:
        blocks = (
            [placed.draw for placed in block] for reads in plan_all_reads(order, done, rank) for block in reads.blocks
        )
        yield from _shuffled(order, done, rank, _read_ahead(store, blocks, workers, pin=False), pin)
    else:
        yield from _read_ahead(store, order.batches(done, rank), workers, pin)


def _read_ahead(store: Store, drawn: Iterator[list[Draw]], workers: int, pin: bool) -> Generator[Reading]:
    """What lists of draws name, in their order."""
    loader = DataLoader(
        Pictures(store),
        batch_sampler=drawn,
        num_workers=workers,
        collate_fn=_as_is,  # type: ignore[arg-type]  # a batch is read as a whole, not collated from a list
        pin_memory=pin,
        generator=torch.Generator(),  # the loader would draw from the global generator
        multiprocessing_context=_fork_clean() if workers else None,
        worker_init_fn=_begin_worker,
    )
    try:
        for reading in loader:
            if isinstance(reading, MagstainError):
                raise reading
            yield cast(Reading, reading)
    except RuntimeError as error:
        if not workers or "DataLoader worker" not in str(error):
            raise
        raise RunError(
            f"a process that reads {store.address} died ({str(error).splitlines()[0]}): mostly memory ran out, or "
            "/dev/shm in a container; run the same again, if need be with fewer data.workers (0 reads without them)"
        ) from error


def _shuffled(order: Order, done: int, rank: int, readings: Generator[Reading], pin: bool) -> Generator[Reading]:
    """Batches from readings of whole blocks, through the buffer."""
    with closing(readings):
        for reads in plan_all_reads(order, done, rank):
            arriving = iter(reads.blocks)
            held: dict[int, tuple[Tensor, Tensor]] = {}
            for first in range(0, len(reads.learned), order.batch):
                wanted = reads.learned[first : first + order.batch]
                while any(place not in held for place in wanted):
                    reading = next(readings)
                    for row, placed in enumerate(next(arriving)):  # copies, or one pair would keep its whole block
                        held[placed.place] = reading.pixels[:, row].clone(), reading.flips[:, row]
                pairs = [held.pop(place) for place in wanted]
                pixels, flips = (_side_by_side(rows) for rows in zip(*pairs, strict=True))
                yield Reading(pixels.pin_memory(), flips.pin_memory()) if pin else Reading(pixels, flips)


def _side_by_side(rows: Sequence[Tensor]) -> Tensor:
    """[2,…] of each pair to [2,B,…]; of one pair without a copy."""
    return rows[0].unsqueeze(1) if len(rows) == 1 else torch.stack(list(rows), dim=1)


def to_batch(reading: Reading, device: torch.device) -> Batch:
    """Move a reading to the device as u8; flip and convert to x / 127.5 - 1 there, channels last as it comes."""
    pixels = reading.pixels.to(device, non_blocking=True)
    he, ihc = (_prepare(stain, flips.tolist()) for stain, flips in zip(pixels, reading.flips, strict=True))
    return Batch(he=he, ihc=ihc)


def _prepare(pixels: Tensor, flips: list[bool]) -> Tensor:
    """u8 [B,S,S,3] -> signed [B,3,S,S]. Which rows are flipped is known on the CPU, so that nobody waits."""
    if any(flips):
        pixels = torch.stack([row.flip(1) if flip else row for row, flip in zip(pixels, flips, strict=True)])
    return to_signed(pixels).permute(0, 3, 1, 2)


def _fork_clean() -> BaseContext:
    """Workers come from a server that has imported torch and no more: no handle or lock of ours is carried over."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _as_is(reading: Reading | MagstainError) -> Reading | MagstainError:
    return reading


def _begin_worker(_worker: int) -> None:
    """A signal to the whole process group must not take the workers away before the parent has saved."""
    keep_freed_memory()
    for number in WATCHED:
        signal.signal(number, signal.SIG_IGN)
