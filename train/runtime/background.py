"""Work that no step waits for: sheets, scores and event files, done in order by one thread beside the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager


class Aside:
    """What was handed over is done in its order; an error comes out at the next `do` or `settle`."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._waiting: list[Future[None]] = []

    def do(self, work: Callable[[], None]) -> None:
        """Have `work` done when its turn comes."""
        self._raise([future for future in self._waiting if future.done()])
        self._waiting = [future for future in self._waiting if not future.done()]
        self._waiting.append(self._pool.submit(work))

    def settle(self) -> None:
        """Wait until everything is done."""
        waiting, self._waiting = self._waiting, []
        self._raise(waiting)

    @staticmethod
    def _raise(futures: list[Future[None]]) -> None:
        for future in futures:
            future.result()


@contextmanager
def working_aside() -> Iterator[Aside]:
    """A thread for the time of a run. What an error has left waiting is given up."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="aside")
    try:
        aside = Aside(pool)
        yield aside
        aside.settle()
    finally:
        pool.shutdown(cancel_futures=True)
