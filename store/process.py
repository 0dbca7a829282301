"""The process: stop on request, what the C library does with freed memory, versions of installed packages.

**Stop.** After the first signal the work is saved and then stops; the second signal stops it immediately. SIGINT is
Ctrl-C, SIGTERM comes from schedulers and the system, SIGUSR1 is the warning that Slurm sends with `--signal`. Signals
within a second are one: a scheduler and a launcher may both send it.

**Memory.** glibc returns every large block to the system when it is freed, and requests a new one the next time, whose
pages the system clears first. A network's feature maps are such blocks, thousands for each batch: on a CPU with 2 cores
four windows of 288 px took 43 s, and 31 s with freed memory kept; the peak was the same.

**Too little memory** is no error of its own in PyTorch: the allocator of a GPU, that of a CPU, cuDNN and cuBLAS each
say it in other words. cuDNN's fastest algorithms take workspaces as large as the card allows, 35 GiB for a step of ASP
in fp32 on an H200 and 1.8 GiB in bf16, so they are bounded.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import inf
from types import FrameType

from store.schema import MagstainError

TOGETHER = 1.0  # s
WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8  # mallopt(3), glibc
MOST = 2**31 - 1  # bytes free at the end of the heap above which they would be returned
KEEPING = {  # the same as environment variables, for a process that is started later
    "MALLOC_TRIM_THRESHOLD_": str(MOST),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_ARENA_MAX": "1",
}
WORKSPACE_MIB = 1024  # of one convolution, more than any takes in bf16
WITHOUT_MEMORY = (  # in the type or the text of an error
    "OutOfMemoryError",
    "out of memory",
    "can't allocate memory",
    "ALLOC_FAILED",
)
SHOWN = 160  # characters of what an error says
UNKNOWN = "unknown"  # the version of a package that is not installed as a distribution
PROVIDERS = {  # distributions that install the same package instead of the usual one
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
}


class DeviceMemoryError(MagstainError):
    """A computation that needs more memory than its device has free."""


@dataclass(slots=True)
class Stop:
    """Whether a signal requested the work to stop."""

    requested: bool = False
    at: float = -inf
    """Seconds of the monotonic clock."""


@contextmanager
def stop_requests(say: Callable[[str], None]) -> Iterator[Stop]:
    """Turn the first of the `WATCHED` signals into a request that the caller checks; `say` shows a message."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in WATCHED}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, _frame: FrameType | None) -> None:
        if stop.requested and time.monotonic() - stop.at > TOGETHER:
            restore()
            signal.raise_signal(number)
        if stop.requested:
            return
        stop.requested, stop.at = True, time.monotonic()
        say(f"{signal.Signals(number).name}: saving, then exiting; send the signal again to stop immediately")

    for number in WATCHED:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()


def wait_passively() -> None:
    """Let threads of OpenMP sleep while they wait, which they do not by themselves; before a library loads it.

    On cores that another program uses too, one thread would spin while the other has no core: a step took 16 s, and
    1.2 s with sleeping threads (two threads, two cores, one busy program).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory; call it before threads start. False if the library is not glibc.

    All threads then share one heap, because only the first heap can grow beyond 64 MB. Can be repeated.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: on Windows a process is no library
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, MOST) and mallopt(ARENA_MAX, 1))


def bound_workspaces() -> None:
    """Let cuDNN take no more than `WORKSPACE_MIB` for a convolution; before it is loaded. A value that is set stays."""
    os.environ.setdefault("CUDNN_CONV_WSCAP_DBG", str(WORKSPACE_MIB))


@contextmanager
def device_memory(what: str, remedy: str) -> Iterator[None]:
    """Turn a lack of memory on a device while `what` is computed into a DeviceMemoryError that says what to do."""
    try:
        yield
    except RuntimeError as error:
        text = f"{type(error).__name__}: {error}"
        if not any(sign in text for sign in WITHOUT_MEMORY):
            raise
        first = str(error).strip().partition("\n")[0][:SHOWN].rstrip(". ")
        raise DeviceMemoryError(f"not enough memory for {what} ({first}); {remedy}") from error


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """The version of each package, whichever distribution provides it; `unknown` if none is installed."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    for distribution in (package, *PROVIDERS.get(package, ())):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return UNKNOWN
