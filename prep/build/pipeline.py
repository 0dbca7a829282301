"""Units through one process: while one is enlarged, the next is read and the one before is packed and written.

Three stages, a thread each, one unit in every stage and none between them: memory is bounded by the size of a unit, not
by the data set, and the device that enlarges never waits for a disk as long as it is the slowest of the three.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import ParamSpec, TypeVar

from prep.build.units import Loaded, Work, enlarge_unit, finish_unit, read_unit
from prep.upscaling.upscale import Enlarges
from prep.views import one_thread_a_call
from store.format.layout import Unit
from store.process import Stop
from store.schema import Pair
from store.writing.writer import StoreWriter

P = ParamSpec("P")
R = TypeVar("R")
READING, ENLARGING, WRITING = "reading", "enlarging", "writing"


@dataclass(slots=True)
class Clock:
    """Seconds that each stage was at work; the busiest one limits the whole."""

    busy: dict[str, float] = field(default_factory=lambda: dict.fromkeys((READING, ENLARGING, WRITING), 0.0))

    def timed(self, stage: str, work: Callable[P, R]) -> Callable[P, R]:
        """`work`, whose time counts to a stage."""

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            start = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                self.busy[stage] += time.perf_counter() - start

        return call

    def add(self, busy: Mapping[str, float]) -> None:
        """Count what another process took."""
        for stage, seconds in busy.items():
            self.busy[stage] += seconds

    @property
    def limit(self) -> str:
        """The busiest stage."""
        return max(self.busy, key=self.busy.__getitem__)


def run_units(
    work: Work,
    units: Iterable[tuple[Unit, Sequence[Pair]]],
    upscaler: Enlarges,
    writer: StoreWriter,
    *,
    threads: int,
    stop: Stop,
    done: Callable[[Unit, str], object],
) -> None:
    """Write these units; `done` is told of each that is committed, and of the stage that limits so far.

    After a stop is requested no other unit is begun; what is in hand is finished.
    """
    clock, waiting = Clock(), iter(units)
    read: deque[Future[Loaded]] = deque()
    written: deque[Future[Unit]] = deque()
    with (
        one_thread_a_call(),
        ThreadPoolExecutor(threads) as pool,
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as packer,
    ):

        def begin_next() -> None:
            for unit, pairs in islice(waiting, 1):
                read.append(reader.submit(clock.timed(READING, read_unit), work, unit, pairs, pool))

        def finish_one() -> None:
            done(written.popleft().result(), clock.limit)

        begin_next()
        while read:
            loaded = read.popleft().result()
            if stop.requested:
                break
            begin_next()
            enlarged = clock.timed(ENLARGING, enlarge_unit)(loaded, upscaler)
            if written:
                finish_one()
            written.append(packer.submit(clock.timed(WRITING, write_unit), writer, enlarged, threads))
        while written:
            finish_one()


def write_unit(writer: StoreWriter, enlarged: Loaded, threads: int) -> Unit:
    """Finish the views of a unit, pack them and commit it."""
    writer.write(enlarged.unit, finish_unit(enlarged), threads=threads)
    return enlarged.unit
