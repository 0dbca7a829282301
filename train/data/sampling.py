"""Which pairs a run reads, step by step: a pure function of (seed, epoch), so that a run resumes at any step.

With `data.block` above 0 the pairs come in blocks instead (`train/data/block_sampling.py`), as a function of (seed,
epoch, rank).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.reader import TILE, Store
from store.schema import SettingsError, Split, Stain
from train.settings import DataSettings, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRef:
    """A picture of one stain: number `index` of `pair` in `view`, mirrored if `flip`.

    `crop` is the place of a crop of a tile: its distance from the top and the left, as shares in [0,1) of the largest.
    """

    pair: int
    view: str
    index: int
    flip: bool
    crop: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRef:
    """The pictures of one sampled pair; unless unpaired, both stains show the same place with the same geometry."""

    he: PictureRef
    ihc: PictureRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewShare:
    """A view, the probability `share` with which it is sampled, and the number of its pictures per pair."""

    view: str
    share: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOrder:
    """What a run reads, step by step.

    An epoch is as many pairs seen as the store has; the last ones, too few for a step, are dropped, as published. Of an
    unpaired store `pairs` counts the more frequent stain, and the other one lacks some.
    Epochs and steps are counted from 1. A step uses `accumulate` batches of each process; which pairs it uses in total
    does not depend on how they are divided among processes, unless they are read in blocks.
    """

    seed: int
    pairs: int
    views: tuple[ViewShare, ...]
    batch: int
    epochs: int
    paired: bool
    sampling: Sampling
    flip: bool
    accumulate: int = 1
    processes: int = 1
    block: int = 0
    buffer: int = 256
    lacking_he: int = 0
    lacking_ihc: int = 0

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
        """Pairs of a step, over all processes."""
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

    def progress(self, step: int) -> float:
        """Completed epochs / all epochs at a step, in [0,1): constant within an epoch."""
        return (self.epoch(step) - 1) / self.epochs

    def pairs_of_epoch(self, epoch: int) -> list[PairRef]:
        """The pairs of an epoch, in their order."""
        return sample_pairs(
            (self.seed, epoch),
            pairs=self.pairs,
            views=self.views,
            paired=self.paired,
            sampling=self.sampling,
            flip=self.flip,
            lacking_he=self.lacking_he,
            lacking_ihc=self.lacking_ihc,
        )

    def batches(self, done: int, rank: int = 0) -> Iterator[list[PairRef]]:
        """All batches of a process after the first `done` steps, `accumulate` of them for each step."""
        first, skipped = divmod(done, self.steps_per_epoch)
        for epoch in range(first + 1, self.epochs + 1):
            refs = self.pairs_of_epoch(epoch)
            for step in range(skipped, self.steps_per_epoch):
                for part in range(rank, self.parts, self.processes):
                    start = step * self.effective_batch + part * self.batch
                    yield refs[start : start + self.batch]
            skipped = 0


def sample_pairs(
    seed: tuple[int, int],
    *,
    pairs: int,
    views: Sequence[ViewShare],
    paired: bool,
    sampling: Sampling,
    flip: bool,
    lacking_he: int = 0,
    lacking_ihc: int = 0,
) -> list[PairRef]:
    """As many pairs as there are, a pure function of `seed` = (seed, epoch).

    For each a pair, a view, one of the view's pictures, a flip and a crop are drawn. Pairs come with replacement, as in
    the ASP repository, or each once. Unpaired, the IHC is drawn separately: from any pair, with replacement, in the
    same view, so that magnifications agree, with its own flip and crop. Source: the unaligned data set of the CycleGAN
    and CUT repositories. Of an unpaired store with more IHC each IHC comes once too, and the H&E again and again, as
    often as each other.
    """
    generator = np.random.default_rng(seed)
    rows = _sample_rows(generator, pairs - lacking_he, pairs, sampling)
    chosen = [views[n] for n in generator.choice(len(views), size=pairs, p=[view.share for view in views])]
    he = _picture_refs(generator, rows, chosen, flip)
    if paired:
        return [PairRef(he=ref, ihc=ref) for ref in he]
    others = Sampling.SHUFFLED if lacking_he and sampling is Sampling.SHUFFLED else Sampling.REPLACEMENT
    ihc = _picture_refs(generator, _sample_rows(generator, pairs - lacking_ihc, pairs, others), chosen, flip)
    return [PairRef(he=one, ihc=other) for one, other in zip(he, ihc, strict=True)]


def _sample_rows(generator: np.random.Generator, rows: int, size: int, sampling: Sampling) -> NDArray[np.int64]:
    """`size` of the first `rows` rows: with replacement, or all of them in random order, again and again."""
    if sampling is Sampling.REPLACEMENT:
        return generator.integers(0, rows, size=size)
    return np.concatenate([generator.permutation(rows) for _ in range(-(-size // rows))])[:size]


def _picture_refs(
    generator: np.random.Generator, rows: NDArray[np.int64], chosen: Sequence[ViewShare], flip: bool
) -> list[PictureRef]:
    """For each row and view: which picture of the view, mirrored or not, and where it is cropped."""
    indices = generator.integers(0, [view.count for view in chosen])
    flips = generator.integers(0, 2, size=len(rows)) == 1
    crops = generator.random((len(rows), 2))
    return [
        PictureRef(
            pair=int(row),
            view=view.view,
            index=int(index),
            flip=flip and bool(flipped),
            crop=(float(down), float(right)),
        )
        for row, view, index, flipped, (down, right) in zip(rows, chosen, indices, flips, crops, strict=True)
    ]


def plan_order(store: Store, settings: DataSettings, *, seed: int, epochs: int, processes: int = 1) -> ReadingOrder:
    """The order in which a run reads a store's train split. Raises SettingsError for what the store does not have."""
    _check_views(store, settings)
    pairs = store.manifest.counts.get(Split.TRAIN, 0)
    if pairs == 0:
        raise SettingsError(f"{store.address} has no train pairs; build a store whose split leaves some for training")
    he, ihc = (len(store.rows(Split.TRAIN, stain)) for stain in Stain)
    if not (he and ihc):
        raise SettingsError(f"{store.address} has {he} H&E and {ihc} IHC tiles in train; training needs both stains")
    weights = settings.view_weights or (1.0,) * len(settings.views)
    return ReadingOrder(
        seed=seed,
        pairs=pairs,
        views=tuple(
            ViewShare(view=view, share=weight / sum(weights), count=store.count(view))
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
        lacking_he=pairs - he,
        lacking_ihc=pairs - ihc,
    )


def _check_views(store: Store, settings: DataSettings) -> None:
    """Refuse views that the train split does not have. Raises SettingsError."""
    available, manifest = store.views(Split.TRAIN), store.manifest
    for view in settings.views:
        if view == TILE and TILE not in available:
            raise SettingsError(
                f"data.views names {TILE!r}, but {store.address} was built without the tiles of train "
                f"(keep_tiles = false); it has {', '.join(available)}"
            )
        if view not in available:
            raise SettingsError(
                f"data.views names {view!r}, but {store.address} has {', '.join(available)}; name some of these"
            )
    if TILE in settings.views and manifest.tile_side < manifest.view_side:
        raise SettingsError(
            f"data.views names {TILE!r}, but a crop of {manifest.view_side} px does not fit into the tiles of "
            f"{store.address}, which have {manifest.tile_side} px; name views such as x1"
        )
