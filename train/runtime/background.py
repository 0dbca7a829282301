"""Work that no training step waits for: contact sheets, validation scores, event files.

One thread does it beside the loop, in the order in which it was submitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager


class Background:
    """A queue of work. An error in it is raised by the next `submit` or `wait`."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._pending: list[Future[None]] = []

    def submit(self, work: Callable[[], None]) -> None:
        """Queue `work`; returns at once."""
        _raise_errors([future for future in self._pending if future.done()])
        self._pending = [future for future in self._pending if not future.done()]
        self._pending.append(self._pool.submit(work))

    def wait(self) -> None:
        """Return when everything submitted so far is done."""
        pending, self._pending = self._pending, []
        _raise_errors(pending)


def _raise_errors(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result()


@contextmanager
def background_work() -> Iterator[Background]:
    """A thread for the length of a run. At its end all work is done; after an error, work not yet begun is dropped."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="background")
    try:
        background = Background(pool)
        yield background
        background.wait()
    finally:
        pool.shutdown(cancel_futures=True)
