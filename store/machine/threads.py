"""Work for threads, the results in order. Libraries that read and pack pixels release Python's lock: threads help."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from store.machine.cores import count_cores

T = TypeVar("T")
R = TypeVar("R")

MOST = 4  # threads: each holds pixels


def in_order(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """The results of a function on each item, in the order of the items, of which few are taken ahead.

    >>> list(in_order(abs, range(-3, 3)))
    [3, 2, 1, 0, 1, 2]
    """
    threads = min(MOST, count_cores())
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque[Future[R]]()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
