"""Work beside a device: what it will need is read ahead in threads, what it has made is written behind it in threads.

Both keep their order. Threads help where the work releases the interpreter's lock, as decoding, encoding, digests and
disks do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from store.machine.cores import count_cores
from store.machine.threads import in_order

T = TypeVar("T")
R = TypeVar("R")
MOST_THREADS = 16
WAITING = 2  # pieces of work begun for each thread: one is done, one waits
MOST = WAITING * MOST_THREADS


def read_ahead(items: Iterable[T], read: Callable[[T], R], most: int = MOST) -> Generator[tuple[T, R]]:
    """Each item with what `read` makes of it, in order; up to `most` next ones are read meanwhile.

    Raises what `read` does.
    """
    threads, ahead = _bounds(most)
    return in_order(lambda item: (item, read(item)), items, threads=threads, ahead=ahead)


class Behind(Generic[R]):
    """A queue of writing, of bounded length. An error in it is raised by a later call.

    `done` is given each result in the order of submission, in the caller's thread.
    """

    def __init__(self, pool: ThreadPoolExecutor, depth: int, done: Callable[[R], object]) -> None:
        self._pool = pool
        self._depth = depth
        self._done = done
        self._pending: deque[Future[R]] = deque()

    def submit(self, write: Callable[[], R]) -> None:
        """Queue `write`; waits while the queue is full, and hands on what is written."""
        while self._pending and (len(self._pending) >= self._depth or self._pending[0].done()):
            self._settle()
        self._pending.append(self._pool.submit(write))

    def wait(self) -> None:
        """Return when everything submitted is written."""
        while self._pending:
            self._settle()

    def _settle(self) -> None:
        self._done(self._pending.popleft().result())


@contextmanager
def write_behind(done: Callable[[R], object], most: int = MOST) -> Iterator[Behind[R]]:
    """A queue of writing, of up to `most`, for a block.

    At its end all is written; also after an error, which is the one raised.
    """
    threads, depth = _bounds(most)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="writing")
    behind = Behind(pool, depth, done)
    try:
        try:
            yield behind
        except BaseException:
            with suppress(Exception):
                behind.wait()
            raise
        behind.wait()
    finally:
        pool.shutdown(cancel_futures=True)


def _bounds(most: int) -> tuple[int, int]:
    """A thread for each core, and how many pieces of work to have begun, at most `most`."""
    threads = min(MOST_THREADS, count_cores(), most)
    return threads, min(WAITING * threads, most)
