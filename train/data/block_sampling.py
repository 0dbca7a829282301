"""Block-wise reading, for stores in object storage: neighbouring pairs come in one request and are shuffled in memory.

A request brings `data.block` pictures of a stain. Blocks come in random order, and pairs leave a buffer of
`data.buffer` pairs at random. The price against `train/data/sampling.py`: the pairs of a block share their view and
picture number, and stay near each other in time; `train/README.md` has the measurement. The order is a function of
(seed, epoch, rank).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np

from train.data.sampling import PairRef, PictureRef, ReadingOrder
from train.settings import Sampling


@dataclass(frozen=True, slots=True)
class Placed:
    """A sampled pair, and its place among those that a process reads in an epoch, in the order of reading."""

    place: int
    pair: PairRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What a process reads in an epoch, block by block, and the places in the order in which steps use them."""

    blocks: list[list[Placed]]
    used: list[int]


def plan_all_reads(order: ReadingOrder, done: int, rank: int) -> Iterator[Reads]:
    """What a process reads after `done` steps, epoch by epoch."""
    first, skipped = divmod(done, order.steps_per_epoch)
    for epoch in range(first + 1, order.epochs + 1):
        yield plan_reads(order, epoch, rank, skipped)
        skipped = 0


def plan_reads(order: ReadingOrder, epoch: int, rank: int, skipped: int = 0) -> Reads:
    """The rest of an epoch, counted from 1, for a process that has done `skipped` steps of it.

    The epoch's pairs in the order of blocks are divided evenly among processes, so that no pair is read by two.
    """
    own = order.steps_per_epoch * order.batch * order.accumulate
    first, placed = rank * own, 0
    parts: list[list[Placed]] = []
    for block in sample_blocks(order, epoch):
        mine = block[max(0, first - placed) : max(0, first + own - placed)]
        start = max(placed, first) - first
        parts.append([Placed(start + n, pair) for n, pair in enumerate(mine)])
        placed += len(block)
    generator = np.random.default_rng((order.seed, epoch, rank))
    used = buffered_shuffle(own, order.buffer, generator)[skipped * order.batch * order.accumulate :]
    wanted = set(used)
    blocks = [[one for one in block if one.place in wanted] for block in parts]
    return Reads(blocks=[block for block in blocks if block], used=used)


def pairs_of_step(order: ReadingOrder, step: int) -> list[PairRef]:
    """The pairs that a step, counted from 1, uses in all processes."""
    pairs: list[PairRef] = []
    for rank in range(order.processes):
        if order.block:
            reads = next(plan_all_reads(order, step - 1, rank))
            read = {placed.place: placed.pair for block in reads.blocks for placed in block}
            pairs += [read[place] for place in reads.used[: order.batch * order.accumulate]]
        else:
            pairs += chain.from_iterable(islice(order.batches(step - 1, rank), order.accumulate))
    return pairs


def sample_blocks(order: ReadingOrder, epoch: int) -> list[list[PairRef]]:
    """The pairs of an epoch, as many as the store has, in blocks of neighbours that share view and picture number.

    Shuffled, each pair comes once; with replacement, blocks are drawn with replacement. Unpaired, the IHC is another
    block of neighbours, in random order; of an unpaired store with more IHC, the H&E is.
    """
    generator = np.random.default_rng((order.seed, epoch))
    starts = range(0, order.pairs, order.block)
    if order.sampling is Sampling.REPLACEMENT:
        chosen = iter(lambda: starts[int(generator.integers(len(starts)))], -1)
    else:
        chosen = iter([starts[n] for n in generator.permutation(len(starts))])
    blocks: list[list[PairRef]] = []
    missing = order.pairs
    for start in chosen:
        size = min(order.block, order.pairs - start, missing)
        blocks.append(_sample_block(order, generator, start, size))
        missing -= size
        if not missing:
            break
    return blocks


def _sample_block(order: ReadingOrder, generator: np.random.Generator, start: int, size: int) -> list[PairRef]:
    """`size` pairs from pair number `start` on."""
    view = order.views[int(generator.choice(len(order.views), p=[view.share for view in order.views]))]
    own = _picture_refs(order, generator, range(start, start + size), view.view, view.count)
    if order.paired:
        return [PairRef(he=ref, ihc=ref) for ref in own]
    rows = order.pairs - order.lacking_he - order.lacking_ihc  # of the other stain, which may have fewer
    first = int(generator.integers(max(rows - size, 0) + 1))
    shuffled = [(first + int(n)) % rows for n in generator.permutation(size)]
    other = _picture_refs(order, generator, shuffled, view.view, view.count)
    he, ihc = (other, own) if order.lacking_he else (own, other)
    return [PairRef(he=one, ihc=two) for one, two in zip(he, ihc, strict=True)]


def _picture_refs(
    order: ReadingOrder, generator: np.random.Generator, pairs: Sequence[int], view: str, count: int
) -> list[PictureRef]:
    """Pictures of one view and picture number, each with its own flip and crop."""
    index = int(generator.integers(count))
    flips = generator.integers(0, 2, size=len(pairs)) == 1
    crops = generator.random((len(pairs), 2))
    shared = PictureRef(pair=0, view=view, index=index, flip=False, crop=(0.0, 0.0))
    return [
        replace(shared, pair=pair, flip=order.flip and bool(flip), crop=(float(crop[0]), float(crop[1])))
        for pair, flip, crop in zip(pairs, flips, crops, strict=True)
    ]


def buffered_shuffle(length: int, buffer: int, generator: np.random.Generator) -> list[int]:
    """0 .. length - 1 as they leave a buffer that is kept full: each leaves once, from a random place.

    >>> sorted(buffered_shuffle(5, 2, np.random.default_rng(0)))
    [0, 1, 2, 3, 4]
    """
    arriving = iter(range(length))
    held = list(islice(arriving, buffer))
    shuffled: list[int] = []
    for number in arriving:
        place = int(generator.integers(len(held)))
        shuffled.append(held[place])
        held[place] = number
    return shuffled + [held[int(n)] for n in generator.permutation(len(held))]
