"""From the store to the device: the order of draws, the pictures they name, batches in [-1, 1].

The order is a pure function of (seed, epoch), so a run continues at any step. Pictures stay u8 until they are on the
device; conversion and flip happen there, and both stains of a pair get the same geometry.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from store.reader import TILE, Store
from store.schema import MagstainError, SettingsError, Split, Stain
from train.settings import DataSettings, Sampling


@dataclass(frozen=True, slots=True)
class Batch:
    """A pair per row: what goes in and what should come out, both signed [B,3,S,S]."""

    he: Tensor
    ihc: Tensor


class Reading(NamedTuple):
    """A batch as it leaves the store: `pixels` u8 [2,B,3,S,S] (he, ihc), `flips` bool [B]."""

    pixels: Tensor
    flips: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One draw: picture `index` of `pair` in `view`; `crop` says how far down and right a crop lies, each in [0,1)."""

    pair: int
    view: str
    index: int
    flip: bool
    crop: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a run reads, step by step. `counts` says how many pictures of a pair each view has.

    An epoch is as many draws as there are pairs; the rest that fills no batch is dropped, as published. Epochs and
    steps are counted from 1.
    """

    seed: int
    pairs: int
    counts: Mapping[str, int]
    batch: int
    epochs: int
    sampling: Sampling
    flip: bool

    def __post_init__(self) -> None:
        if self.pairs < self.batch:
            raise SettingsError(
                f"data.batch = {self.batch}: the store has {self.pairs} train pairs, so an epoch would have no step; "
                f"use at most {self.pairs}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.pairs // self.batch

    @property
    def steps(self) -> int:
        """Batches of the whole run."""
        return self.epochs * self.steps_per_epoch

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to."""
        return (step - 1) // self.steps_per_epoch + 1

    def draws(self, epoch: int) -> list[Draw]:
        """The draws of an epoch: a pair, one of the views with equal probability, one of its pictures, a flip."""
        return draws((self.seed, epoch), pairs=self.pairs, counts=self.counts, sampling=self.sampling, flip=self.flip)

    def batches(self, done: int) -> Iterator[list[Draw]]:
        """All batches after the first `done` steps."""
        first, skipped = divmod(done, self.steps_per_epoch)
        for epoch in range(first + 1, self.epochs + 1):
            drawn = self.draws(epoch)
            for start in range(skipped * self.batch, self.steps_per_epoch * self.batch, self.batch):
                yield drawn[start : start + self.batch]
            skipped = 0


def draws(
    seed: tuple[int, int], *, pairs: int, counts: Mapping[str, int], sampling: Sampling, flip: bool
) -> list[Draw]:
    """`pairs` draws, a pure function of (seed, epoch): pairs with replacement (ASP repository) or each once."""
    generator = np.random.default_rng(seed)
    if sampling is Sampling.REPLACEMENT:
        rows = generator.integers(0, pairs, size=pairs)
    else:
        rows = generator.permutation(pairs)
    names = tuple(counts)
    views = [names[n] for n in generator.integers(0, len(names), size=pairs)]
    indices = generator.integers(0, [counts[view] for view in views])
    flips = generator.integers(0, 2, size=pairs) == 1
    crops = generator.random((pairs, 2))
    return [
        Draw(pair=int(row), view=view, index=int(index), flip=flip and bool(flipped), crop=(float(down), float(right)))
        for row, view, index, flipped, (down, right) in zip(rows, views, indices, flips, crops, strict=True)
    ]


def plan_order(store: Store, settings: DataSettings, *, seed: int, epochs: int) -> Order:
    """The order in which a run reads a store's train split; refuses what the store cannot give."""
    has = store.views(Split.TRAIN)
    for view in settings.views:
        if view == TILE and TILE not in has:
            raise SettingsError(
                f"data.views names {TILE!r}, but {store.path} was built without the tiles of train "
                f"(keep_tiles = false); it has {', '.join(has)}"
            )
        if view not in has:
            raise SettingsError(f"data.views names {view!r}, but {store.path} has {', '.join(has)}; name some of these")
    pairs = store.manifest.counts.get(Split.TRAIN, 0)
    if pairs == 0:
        raise SettingsError(f"{store.path} has no train pairs; build a store whose split leaves some for training")
    return Order(
        seed=seed,
        pairs=pairs,
        counts={view: store.count(view) for view in settings.views},
        batch=settings.batch,
        epochs=epochs,
        sampling=settings.sampling,
        flip=settings.flip,
    )


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
                for slot, stain in enumerate(Stain):  # he, ihc
                    self._read(draw, stain, pixels[slot, row])
        except MagstainError as error:
            return error
        return Reading(pixels, torch.tensor([draw.flip for draw in drawn]))

    def _read(self, draw: Draw, stain: Stain, out: Tensor) -> None:
        """One picture into `out`, u8 [3,S,S]; of a tile, the crop that the draw says."""
        if draw.view != TILE:
            self.store.planes(Split.TRAIN, draw.view, stain, draw.pair, draw.index, out=out.numpy())
            return
        side = out.shape[-1]
        tile = self.store.planes(Split.TRAIN, TILE, stain, draw.pair)
        top, left = (int(share * (tile.shape[-1] - side + 1)) for share in draw.crop)
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
    flips = reading.flips.to(device, non_blocking=True)[:, None, None, None]
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
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
