"""Work on many pictures, in processes on all cores; where starting them would take longer, in threads of this process.

Results are in the order of the items and the same wherever they were computed. Processes start empty (`spawn`): they
inherit no lock and no open handle, and each uses one thread. This module is all that a process imports before it knows
what to do, because libraries choose their threads when they are imported.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from time import sleep
from typing import Any, TypeVar

from store.cli import say, track
from store.machine.cores import count_cores
from store.machine.shared_memory import processes_fault
from store.process import keep_freed_memory
from store.schema import RunError

THREADS = 4  # pictures at the same time in one process: decoding, sha256 and sums release the interpreter
GRACE = 1.0  # seconds in which a Ctrl-C that ended the processes reaches this one too
SHARE = 32 << 20  # pixels that a process works on for some ten seconds; it starts in one
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
Item = TypeVar("Item")
Result = TypeVar("Result")
_given: list[Callable[[Any], Any]] = []  # in a worker process: what it was started for


def choose_workers(count: int | None) -> int:
    """The number of processes: what is asked for, at least 1, or (None) one on each core that this process may use."""
    if count is not None and count < 1:
        raise RunError(f"--workers {count}: must be at least 1; leave it out for one on each core")
    return count or count_cores()


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, threads: int = THREADS
) -> list[Result]:
    """The result of `work` for each item, in the order of the items; progress is counted in pictures."""
    with ThreadPoolExecutor(threads) as pool:
        return list(track(pool.map(work, items), what=what, unit="picture", total=len(items)))


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, workers: int, pixels: int
) -> list[Result]:
    """As `in_threads`, in up to `workers` processes if the items, of `pixels` each, are worth them.

    `work` and the items must be picklable. The first error of the items is raised here; RunError if a process dies.
    """
    processes = min(workers, len(items) * pixels // SHARE)
    if processes > 1 and (fault := processes_fault(processes)):
        say(f"note: {what} in threads of one process, which is slower: {fault}")
        processes = 1
    if processes < 2:
        return in_threads(work, items, what, min(THREADS, workers))
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start, initargs=(pickle.dumps(work),))
    try:
        return list(track(pool.map(_work, items), what=what, unit="picture", total=len(items)))
    except BrokenProcessPool as error:
        sleep(GRACE)
        raise RunError(
            f"a process for {what!r} died: usually memory ran out; run the same command again, with fewer --workers if "
            "it happens again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(work: bytes) -> None:
    """Prepare a worker process. Ctrl-C, which reaches the whole process group, ends it at once; the parent says so.

    Where the parent was started without hearing it, as in the background of a script, neither hears it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ |= dict.fromkeys(ONE_THREAD, "1")
    keep_freed_memory()
    Thread(target=_end_with_parent, daemon=True).start()
    _given.append(pickle.loads(work))  # the parent's own bytes; as an argument it would import numpy before this


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _work(item: Any) -> Any:
    return _given[0](item)
