"""Work for threads, the results in order. Libraries that read and pack pixels release Python's lock: threads help."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from store.machine.cores import count_cores

T = TypeVar("T")
R = TypeVar("R")

MOST = 4  # threads, if nothing else is said: each holds pixels


def in_order(
    function: Callable[[T], R], items: Iterable[T], *, threads: int = 0, ahead: int = 0
) -> Generator[R, None, None]:
    """The results of a function on each item, in the order of the items, of which few are taken ahead.

    By default there is a thread for each core, up to `MOST`, and one item is taken `ahead` for each. Work that has not
    begun when the caller stops never does. Raises what the function does.

    >>> list(in_order(abs, range(-3, 3)))
    [3, 2, 1, 0, 1, 2]
    """
    threads = threads or min(MOST, count_cores())
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[R]]()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > (ahead or threads):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
