"""Units through one process: while one is enlarged, the next is read and the one before is packed and written.

Three stages, a thread each, one unit in every stage and none between them: memory is bounded by the size of a unit, not
by the data set, and the device that enlarges never waits for a disk as long as it is the slowest of the three.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import cv2

from prep.build.runner import Clock, Committed, PairsOfUnit, Stage
from prep.build.units import Loaded, Work, enlarge_unit, read_unit, write_unit
from prep.upscaling.upscale import make_upscaler
from store.format.layout import Unit
from store.process import Stop
from store.schema import Pair
from store.writing.writer import StoreWriter


class Pipeline:
    """Runs units in this process. The upscaler is loaded at once, so that an error comes before anything is written."""

    def __init__(self, work: Work, threads: int) -> None:
        self._work, self._threads = work, threads
        self._upscaler = make_upscaler(work.upscaler)
        self._clock = Clock()

    def run(self, units: Sequence[PairsOfUnit], writer: StoreWriter, stop: Stop) -> Iterator[Committed]:
        """Write these units; yields each that is committed.

        After a stop is requested no other unit is started; the units in progress are finished.
        """
        waiting = iter(units)
        with (
            one_thread_a_call(),
            ThreadPoolExecutor(self._threads) as pool,
            ThreadPoolExecutor(1) as reader,
            ThreadPoolExecutor(1) as packer,
        ):

            def read_next() -> Future[Loaded] | None:
                following = next(waiting, None)
                return reader.submit(self._read, *following, pool) if following else None

            reading, writing = read_next(), None
            while reading:
                loaded = reading.result()
                if stop.requested:
                    break
                reading = read_next()
                with self._clock.time(Stage.ENLARGING):
                    enlarged = enlarge_unit(loaded, self._upscaler)
                if writing:
                    yield writing.result()
                writing = packer.submit(self._write, writer, enlarged)
            if writing:
                yield writing.result()

    def _read(self, unit: Unit, pairs: Sequence[Pair], pool: ThreadPoolExecutor) -> Loaded:
        with self._clock.time(Stage.READING):
            return read_unit(self._work, unit, pairs, pool)

    def _write(self, writer: StoreWriter, enlarged: Loaded) -> Committed:
        with self._clock.time(Stage.WRITING):
            write_unit(writer, enlarged, self._threads)
        return Committed(unit=enlarged.unit, limit=self._clock.limit)


@contextmanager
def one_thread_a_call() -> Iterator[None]:
    """Let cv2 work on the thread that calls it: pictures are spread over threads already, and idle ones of cv2 spin."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
