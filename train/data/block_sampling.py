"""Block-shuffled reading: neighbouring pairs are fetched at once and shuffled in memory, for stores far away.

One request then brings `data.block` pictures of a stain. Blocks come in random order, and draws leave a buffer of
`data.buffer` pairs at random. The price against `train/order.py`: pairs of a block share view and picture, and stay
near each other in time, as `train/README.md` measures. The order is a function of (seed, epoch, rank).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from train.data.sampling import Draw, Look, Order
from train.settings import Sampling


@dataclass(frozen=True, slots=True)
class Placed:
    """A draw, and its place among those of a process in an epoch, in the order in which they are read."""

    place: int
    draw: Draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What a process reads for an epoch, block by block, and the places in the order in which they are learned from."""

    blocks: list[list[Placed]]
    learned: list[int]


def plan_reads(order: Order, epoch: int, rank: int, skipped: int = 0) -> Reads:
    """What is left of an epoch, counted from 1, for a process that has taken `skipped` steps of it.

    The epoch's draws in the order of blocks are divided evenly, so that no process reads what another one does.
    """
    own = order.steps_per_epoch * order.batch * order.accumulate
    first, placed = rank * own, 0
    cut: list[list[Placed]] = []
    for block in draw_blocks(order, epoch):
        mine = block[max(0, first - placed) : max(0, first + own - placed)]
        start = max(placed, first) - first
        cut.append([Placed(start + n, draw) for n, draw in enumerate(mine)])
        placed += len(block)
    generator = np.random.default_rng((order.seed, epoch, rank))
    learned = shuffle_through(own, order.buffer, generator)[skipped * order.batch * order.accumulate :]
    left = set(learned)
    blocks = [[one for one in block if one.place in left] for block in cut]
    return Reads(blocks=[block for block in blocks if block], learned=learned)


def draw_blocks(order: Order, epoch: int) -> list[list[Draw]]:
    """The draws of an epoch, as many as there are pairs, in blocks of neighbours that share view and picture.

    Shuffled, each pair comes once; with replacement, blocks are drawn with it. Unpaired, the IHC is a block from
    anywhere, its pairs in any order.
    """
    generator = np.random.default_rng((order.seed, epoch))
    starts = range(0, order.pairs, order.block)
    if order.sampling is Sampling.REPLACEMENT:
        chosen = iter(lambda: starts[int(generator.integers(len(starts)))], -1)
    else:
        chosen = iter([starts[n] for n in generator.permutation(len(starts))])
    blocks: list[list[Draw]] = []
    left = order.pairs
    for start in chosen:
        size = min(order.block, order.pairs - start, left)
        blocks.append(_draw_block(order, generator, start, size))
        left -= size
        if not left:
            break
    return blocks


def _draw_block(order: Order, generator: np.random.Generator, start: int, size: int) -> list[Draw]:
    """`size` draws from pair `start` on."""
    view = order.views[int(generator.choice(len(order.views), p=[choice.share for choice in order.views]))]
    he = _looks(order, generator, range(start, start + size), view.view, view.count)
    if order.paired:
        return [Draw(he=look, ihc=look) for look in he]
    other = int(generator.integers(order.pairs - size + 1))
    ihc = _looks(order, generator, [other + int(n) for n in generator.permutation(size)], view.view, view.count)
    return [Draw(he=one, ihc=two) for one, two in zip(he, ihc, strict=True)]


def _looks(order: Order, generator: np.random.Generator, pairs: Sequence[int], view: str, count: int) -> list[Look]:
    index = int(generator.integers(count))
    flips = generator.integers(0, 2, size=len(pairs)) == 1
    crops = generator.random((len(pairs), 2))
    seen = Look(pair=0, view=view, index=index, flip=False, crop=(0.0, 0.0))
    return [
        replace(seen, pair=pair, flip=order.flip and bool(flip), crop=(float(crop[0]), float(crop[1])))
        for pair, flip, crop in zip(pairs, flips, crops, strict=True)
    ]


def shuffle_through(length: int, buffer: int, generator: np.random.Generator) -> list[int]:
    """0 .. length - 1 as they leave a buffer that is kept full and gives out any of its places, each once.

    >>> sorted(shuffle_through(5, 2, np.random.default_rng(0)))
    [0, 1, 2, 3, 4]
    """
    arriving = iter(range(length))
    held = list(islice(arriving, buffer))
    left: list[int] = []
    for number in arriving:
        place = int(generator.integers(len(held)))
        left.append(held[place])
        held[place] = number
    return left + [held[int(n)] for n in generator.permutation(len(held))]


def plan_all_reads(order: Order, done: int, rank: int) -> Iterator[Reads]:
    """What a process reads after `done` steps, epoch by epoch."""
    first, skipped = divmod(done, order.steps_per_epoch)
    for epoch in range(first + 1, order.epochs + 1):
        yield plan_reads(order, epoch, rank, skipped)
        skipped = 0
