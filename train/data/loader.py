"""From the store to the device: the sampled pairs as batches in [-1, 1].

Pictures stay u8 until they are on the device. Conversion and flip happen there; both stains of a pair get the same
geometry.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from multiprocessing.context import BaseContext
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from store.machine.shared_memory import AHEAD
from store.process import WATCHED, keep_freed_memory
from store.reader import TILE, Store
from store.schema import MagstainError, RunError, Split, Stain
from train.data.batch import Batch, RawBatch, to_signed
from train.data.block_sampling import plan_all_reads
from train.data.sampling import PairRef, PictureRef, ReadingOrder
from train.data.transport import Unpacker, pack

DEATHS = ("DataLoader worker", "No space left on device", "Too many open files", "ancdata")
"""What PyTorch says when a process died, or when there is no memory or file handle left to share with it."""


class StorePictures(Dataset[Any]):
    """The pictures of sampled train pairs. Each worker process opens the store itself."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitems__(self, pairs: list[PairRef]) -> RawBatch | MagstainError:
        """A batch. An error is returned as a value, so that it crosses processes without its trace."""
        side = self.store.manifest.view_side
        pixels = torch.empty((2, len(pairs), side, side, 3), dtype=torch.uint8)
        try:
            self._read([pair.he for pair in pairs], Stain.HE, pixels[0])
            self._read([pair.ihc for pair in pairs], Stain.IHC, pixels[1])
        except MagstainError as error:
            return error
        return RawBatch(pixels, torch.tensor([[pair.he.flip for pair in pairs], [pair.ihc.flip for pair in pairs]]))

    def _read(self, refs: list[PictureRef], stain: Stain, out: Tensor) -> None:
        """Pictures of one stain into `out`, u8 [B,S,S,3], view by view."""
        for view in dict.fromkeys(ref.view for ref in refs):
            rows = [row for row, ref in enumerate(refs) if ref.view == view]
            side = self.store.side(view)
            planes = np.empty((len(rows), 3, side, side), np.uint8)
            places = [(refs[row].pair, refs[row].index) for row in rows]
            self.store.many_planes(Split.TRAIN, view, stain, places, list(planes))
            for row, picture in zip(rows, planes, strict=True):
                _interleave(_crop(picture, refs[row], out.shape[1]) if view == TILE else picture, out[row].numpy())


def _crop(tile: NDArray[np.uint8], ref: PictureRef, side: int) -> NDArray[np.uint8]:
    """The crop of a tile that `ref` names, [3,T,T] -> [3,side,side]."""
    top, left = (int(share * (tile.shape[-1] - side + 1)) for share in ref.crop)
    return tile[:, top : top + side, left : left + side]


def _interleave(planes: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Planes u8 [3,H,W] into a contiguous picture u8 [H,W,3]: 0.02 ms at 512 px, where numpy takes 0.9 ms."""
    merged = cv2.merge(list(planes), out)
    assert merged is out or np.shares_memory(merged, out)


def bytes_of_batch(store: Store, order: ReadingOrder) -> int:
    """The bytes of the pictures that are read at once."""
    return 2 * max(order.batch, order.block) * store.manifest.view_side**2 * 3


def read_batches(
    store: Store, order: ReadingOrder, *, done: int, workers: int, pin: bool, rank: int = 0
) -> Generator[RawBatch]:
    """The batches of a process after `done` steps, read by `workers` processes that live as long as the run (0: none).

    Raises StoreError for what cannot be read, and RunError if a worker process died.
    """
    if order.block:
        blocks = (
            [placed.pair for placed in block] for reads in plan_all_reads(order, done, rank) for block in reads.blocks
        )
        yield from _batches_of_blocks(order, done, rank, _read_ahead(store, blocks, workers, pin=False), pin)
    else:
        yield from _read_ahead(store, order.batches(done, rank), workers, pin)


def _read_ahead(store: Store, lists: Iterator[list[PairRef]], workers: int, pin: bool) -> Generator[RawBatch]:
    """The pictures of each list of pairs, in their order."""
    unpack = Unpacker(pin=pin)
    try:
        for batch in _start(store, lists, workers, pin):
            if isinstance(batch, MagstainError):
                raise batch
            yield unpack(batch) if workers else cast(RawBatch, batch)
    except (RuntimeError, OSError) as error:
        if not workers or not any(sign in str(error) for sign in DEATHS):
            raise
        raise RunError(
            f"a process that reads {store.address} died ({str(error).splitlines()[0]}): usually memory ran out, or "
            "/dev/shm in a container, or files that may be open (`ulimit -n`); run the same command again, with fewer "
            "data.workers if it happens again (0 reads without worker processes)"
        ) from error


def _start(store: Store, lists: Iterator[list[PairRef]], workers: int, pin: bool) -> Iterator[Any]:
    """The processes that read, and what comes from them."""
    with warnings.catch_warnings():  # of more workers than cores, of which PyTorch counts those of the affinity
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader = DataLoader(
            StorePictures(store),
            batch_sampler=lists,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            collate_fn=pack if workers else _as_it_is,  # type: ignore[arg-type]  # a batch is read as one, not collated
            pin_memory=pin,
            generator=torch.Generator(),  # else the loader draws from the global generator
            multiprocessing_context=_clean_processes() if workers else None,
            worker_init_fn=_start_worker,
        )
        try:
            return iter(loader)
        except OSError as error:
            _drop_frames(error)
            raise


def _drop_frames(error: OSError) -> None:
    """Let go of PyTorch's half-made iterator, which the frames of the error hold: it fails again when it is deleted."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    error.__traceback__ = None
    sys.unraisablehook = before


def _batches_of_blocks(
    order: ReadingOrder, done: int, rank: int, blocks: Generator[RawBatch], pin: bool
) -> Generator[RawBatch]:
    """Batches, through the shuffle buffer, from whole blocks."""
    with closing(blocks):
        for reads in plan_all_reads(order, done, rank):
            arriving = iter(reads.blocks)
            held: dict[int, tuple[Tensor, Tensor]] = {}
            for first in range(0, len(reads.used), order.batch):
                wanted = reads.used[first : first + order.batch]
                while any(place not in held for place in wanted):
                    block = next(blocks)
                    for row, placed in enumerate(next(arriving)):  # copies: a pair would keep its whole block in memory
                        held[placed.place] = block.pixels[:, row].clone(), block.flips[:, row]
                pairs = [held.pop(place) for place in wanted]
                pixels, flips = (_stack_pairs(rows) for rows in zip(*pairs, strict=True))
                yield RawBatch(pixels.pin_memory(), flips.pin_memory()) if pin else RawBatch(pixels, flips)


def _stack_pairs(rows: Sequence[Tensor]) -> Tensor:
    """[2,…] of each pair to [2,B,…]; a single pair is not copied."""
    return rows[0].unsqueeze(1) if len(rows) == 1 else torch.stack(list(rows), dim=1)


def to_batch(raw: RawBatch, device: torch.device) -> Batch:
    """Move a batch to the device as u8, and prepare it there."""
    return prepare(raw.pixels.to(device, non_blocking=True), raw.flips.to(device, non_blocking=True))


def prepare(pixels: Tensor, flips: Tensor) -> Batch:
    """Flip u8 [2,B,S,S,3] where `flips`, bool [2,B], and convert it to x / 127.5 - 1, channels last as it comes."""
    flipped = torch.where(flips[:, :, None, None, None], pixels.flip(3), pixels)
    he, ihc = to_signed(flipped).permute(0, 1, 4, 2, 3)
    return Batch(he=he, ihc=ihc)


def _clean_processes() -> BaseContext:
    """Workers start from a server that has only imported this module: they inherit no open handle and no lock."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _as_it_is(batch: RawBatch | MagstainError) -> RawBatch | MagstainError:
    return batch


def _start_worker(_worker: int) -> None:
    """A signal to the whole process group must not stop the workers before the parent has saved."""
    keep_freed_memory()
    for number in WATCHED:
        signal.signal(number, signal.SIG_IGN)
