"""The process: a polite stop, memory that is kept, the versions of what it runs.

**Stop.** The first signal asks, and the work stops where it is saved; the second one acts at once. SIGINT is Ctrl-C,
SIGTERM what schedulers and systems send, SIGUSR1 the warning that Slurm gives with `--signal`.

**Memory.** glibc gives every large block back to the system when it is freed and takes a new one the next time, whose
pages the system clears first. A network's feature maps are such blocks, thousands for each batch: on a CPU with 2 cores
four windows of 288 px took 43 s, and 31 s with freed memory kept; the peak was the same.
"""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import FrameType

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # mallopt(3), glibc
MOST = 2**31 - 1  # bytes free at the end of the heap from which on they would be given back
KEEPING = {  # the same for a process that is still to be started
    "MALLOC_TRIM_THRESHOLD_": str(MOST),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_ARENA_MAX": "1",
}
UNKNOWN = "unknown"  # the version of a package that does not tell
PROVIDERS = {  # distributions that install the same package, where its usual one is not installed
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
}


@dataclass(slots=True)
class Stop:
    """Whether somebody asked the work to stop."""

    requested: bool = False


@contextmanager
def stop_requests(say: Callable[[str], None]) -> Iterator[Stop]:
    """Turn the first signal that is watched into a request that the caller looks at; `say` tells the person."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in WATCHED}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.requested = True
        restore()
        say(f"{signal.Signals(number).name}: saving, then exiting; send the signal again to stop immediately")

    for number in WATCHED:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        restore()


def keep_freed_memory() -> bool:
    """Tell the C library of this process, before it starts threads; whether it understood. Harmless when repeated.

    All threads share one heap then, for only the first one can grow beyond 64 MB without asking for new pages.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: on Windows a process is no library
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, MOST) and mallopt(ARENA_MAX, 1))


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """The version of each package, whichever distribution provides it; `unknown` where it does not tell."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    for distribution in (package, *PROVIDERS.get(package, ())):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return UNKNOWN
