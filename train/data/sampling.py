"""What a run reads, and when: draws are a pure function of (seed, epoch), so that a run continues at any step.

Read in blocks (`data.block`), it is `train/blocks.py` that says when, a function of (seed, epoch, rank).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.reader import TILE, Store
from store.schema import SettingsError, Split
from train.settings import DataSettings, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A picture of one stain: `index` of `pair` in `view`; `crop` says how far down and right it lies, in [0,1)."""

    pair: int
    view: str
    index: int
    flip: bool
    crop: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One draw: what is seen of both stains, the same place with the same geometry unless pairs are not asked for."""

    he: Look
    ihc: Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A view that draws choose with probability `share`; it has `count` pictures of a pair."""

    view: str
    share: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a run reads, step by step. `views` are what a draw chooses from.

    An epoch is as many draws as there are pairs; the rest that fills no step is dropped, as published. Epochs and
    steps are counted from 1. A step takes `accumulate` batches of each process: which draws it takes in all does not
    depend on how they are divided, unless blocks are read (`train/blocks.py`).
    """

    seed: int
    pairs: int
    views: tuple[Choice, ...]
    batch: int
    epochs: int
    paired: bool
    sampling: Sampling
    flip: bool
    accumulate: int = 1
    processes: int = 1
    block: int = 0
    buffer: int = 256

    def __post_init__(self) -> None:
        if self.pairs < self.effective_batch:
            parts = f", accumulate = {self.accumulate}, {self.processes} processes" if self.parts > 1 else ""
            raise SettingsError(
                f"data.batch = {self.batch}{parts}: the store has {self.pairs} train pairs, so an epoch would have no "
                f"step; use at most {self.pairs}"
            )

    @property
    def parts(self) -> int:
        """Batches of a step, over all processes."""
        return self.accumulate * self.processes

    @property
    def effective_batch(self) -> int:
        """Draws of a step."""
        return self.batch * self.parts

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.pairs // self.effective_batch

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to."""
        return (step - 1) // self.steps_per_epoch + 1

    def draws(self, epoch: int) -> list[Draw]:
        """The draws of an epoch, counted from 1."""
        return draws(
            (self.seed, epoch),
            pairs=self.pairs,
            views=self.views,
            paired=self.paired,
            sampling=self.sampling,
            flip=self.flip,
        )

    def batches(self, done: int, rank: int = 0) -> Iterator[list[Draw]]:
        """All batches of a process after the first `done` steps, `accumulate` of them for each step."""
        first, skipped = divmod(done, self.steps_per_epoch)
        for epoch in range(first + 1, self.epochs + 1):
            drawn = self.draws(epoch)
            for step in range(skipped, self.steps_per_epoch):
                for part in range(rank, self.parts, self.processes):
                    start = step * self.effective_batch + part * self.batch
                    yield drawn[start : start + self.batch]
            skipped = 0


def draws(
    seed: tuple[int, int], *, pairs: int, views: Sequence[Choice], paired: bool, sampling: Sampling, flip: bool
) -> list[Draw]:
    """`pairs` draws, a pure function of (seed, epoch): each a pair, a view, one of its pictures, a flip and a crop.

    Pairs come with replacement, as in the ASP repository, or each once. Unpaired, the IHC is drawn by itself: of any
    pair, with replacement, in the same view, so that magnifications agree, with a flip and crop of its own. Source:
    the unaligned data set of the CycleGAN and CUT repositories.
    """
    generator = np.random.default_rng(seed)
    if sampling is Sampling.REPLACEMENT:
        rows = generator.integers(0, pairs, size=pairs)
    else:
        rows = generator.permutation(pairs)
    chosen = [views[n] for n in generator.choice(len(views), size=pairs, p=[choice.share for choice in views])]
    he = _looks(generator, rows, chosen, flip)
    ihc = he if paired else _looks(generator, generator.integers(0, pairs, size=pairs), chosen, flip)
    return [Draw(he=one, ihc=other) for one, other in zip(he, ihc, strict=True)]


def _looks(generator: np.random.Generator, rows: NDArray[np.int64], chosen: Sequence[Choice], flip: bool) -> list[Look]:
    """One look for each row and view: which picture of the view, mirrored or not, and where it is cropped."""
    indices = generator.integers(0, [choice.count for choice in chosen])
    flips = generator.integers(0, 2, size=len(rows)) == 1
    crops = generator.random((len(rows), 2))
    return [
        Look(
            pair=int(row),
            view=choice.view,
            index=int(index),
            flip=flip and bool(flipped),
            crop=(float(down), float(right)),
        )
        for row, choice, index, flipped, (down, right) in zip(rows, chosen, indices, flips, crops, strict=True)
    ]


def plan_order(store: Store, settings: DataSettings, *, seed: int, epochs: int, processes: int = 1) -> Order:
    """The order in which a run reads a store's train split; refuses what the store cannot give."""
    has = store.views(Split.TRAIN)
    weights = settings.view_weights or (1.0,) * len(settings.views)
    for view in settings.views:
        if view == TILE and TILE not in has:
            raise SettingsError(
                f"data.views names {TILE!r}, but {store.address} was built without the tiles of train "
                f"(keep_tiles = false); it has {', '.join(has)}"
            )
        if view not in has:
            raise SettingsError(
                f"data.views names {view!r}, but {store.address} has {', '.join(has)}; name some of these"
            )
    manifest = store.manifest
    if TILE in settings.views and manifest.tile_side < manifest.view_side:
        raise SettingsError(
            f"data.views names {TILE!r}, but a crop of {manifest.view_side} px does not fit the tiles of "
            f"{store.address}, which have {manifest.tile_side} px; name views such as x1"
        )
    pairs = manifest.counts.get(Split.TRAIN, 0)
    if pairs == 0:
        raise SettingsError(f"{store.address} has no train pairs; build a store whose split leaves some for training")
    return Order(
        seed=seed,
        pairs=pairs,
        views=tuple(
            Choice(view=view, share=weight / sum(weights), count=store.count(view))
            for view, weight in zip(settings.views, weights, strict=True)
        ),
        batch=settings.batch,
        epochs=epochs,
        paired=settings.paired,
        sampling=settings.sampling,
        flip=settings.flip,
        accumulate=settings.accumulate,
        processes=processes,
        block=settings.block,
        buffer=settings.buffer,
    )
