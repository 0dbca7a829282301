"""Units through one process, several at once: some are read, one is enlarged, the ones before are packed and written.

All threads read, cut and pack pictures, whichever unit they belong to, so that no core waits while there is work; one
thread enlarges, and one commits unit after unit in their order. Memory is bounded by the number of units in flight, not
by the data set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import cv2

from prep.build.runner import Clock, Committed, PairsOfUnit, Stage
from prep.build.units import Loaded, Work, enlarge_unit, pack_unit, read_unit
from prep.tiles.decoded import Decoded
from prep.upscaling.upscale import make_upscaler
from store.format.codec import Parts
from store.format.layout import Unit
from store.process import Stop
from store.writing.writer import StoreWriter

BEHIND = 2  # units that are enlarged and not committed: one is packed while the one before is written


class Pipeline:
    """Runs units in this process. The upscaler is loaded at once, so that an error comes before anything is written."""

    def __init__(self, work: Work, threads: int, decoded: Decoded) -> None:
        self._work, self._threads, self._decoded = work, threads, decoded
        self._upscaler = make_upscaler(work.upscaler)
        self._clock = Clock()

    def run(self, units: Sequence[PairsOfUnit], writer: StoreWriter, stop: Stop) -> Iterator[Committed]:
        """Write these units; yields each that is committed.

        After a stop is requested no other unit is started. What is enlarged by then, or when another unit fails, is
        finished; after a unit that could not be written no later one is committed.
        """
        self._decoded.expect(pair for _, pairs in units for pair in pairs)
        waiting, ahead = iter(units), 1 + -(-self._threads // self._work.manifest.unit)
        reading: deque[Future[Loaded]] = deque()
        writing: deque[Future[Unit]] = deque()
        with (
            one_thread_a_call(),
            ThreadPoolExecutor(self._threads) as pool,
            ThreadPoolExecutor(ahead) as reader,
            ThreadPoolExecutor(1) as packer,
            ThreadPoolExecutor(1) as committer,
        ):

            def read_ahead() -> None:
                for unit, pairs in islice(waiting, ahead - len(reading)):
                    reading.append(reader.submit(read_unit, self._work, unit, pairs, pool, self._decoded))

            def commit(shards: Future[dict[str, Parts]], unit: Unit, before: Future[Unit] | None) -> Unit:
                if before:
                    before.result()  # raises what stopped it
                writer.commit(unit, shards.result())
                return unit

            read_ahead()
            while reading and not stop.requested:
                with self._clock.time(Stage.READING):
                    loaded = reading.popleft().result()
                if stop.requested:
                    break
                read_ahead()
                with self._clock.time(Stage.ENLARGING):
                    enlarged = enlarge_unit(loaded, self._upscaler)
                if len(writing) == BEHIND:
                    yield self._await(writing)
                shards = packer.submit(pack_unit, self._work, enlarged, pool)
                before = writing[-1] if writing else None
                writing.append(committer.submit(commit, shards, enlarged.unit, before))
            while writing:
                yield self._await(writing)

    def describe_limit(self) -> str:
        """The limiting stage, and how long the device waited."""
        waited = 1 - self._clock.share(Stage.ENLARGING)
        return f"limited by {self._clock.awaited}: the device waited {waited:.0%} of {self._clock.total:.0f} s"

    def _await(self, writing: deque[Future[Unit]]) -> Committed:
        """The oldest unit, once it is committed."""
        with self._clock.time(Stage.WRITING):
            unit = writing.popleft().result()
        return Committed(unit=unit, limit=self._clock.awaited)


@contextmanager
def one_thread_a_call() -> Iterator[None]:
    """Let cv2 work on the thread that calls it: pictures are spread over threads already, and idle ones of cv2 spin."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
