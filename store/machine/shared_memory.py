"""The memory that processes share, `/dev/shm` on Linux: containers often have 64 MB of it, or less.

Processes that exchange results need semaphores, each a page there; tensors that cross between them lie there whole.
"""

from __future__ import annotations

import mmap
import multiprocessing
import shutil
from math import inf
from pathlib import Path

SHARED = Path("/dev/shm")
OF_ALL, OF_EACH = 16, 3  # semaphores of a pool of processes, and of each of its queues
AHEAD = 2  # batches that each reading process has ready, as PyTorch's loader asks for
IN_USE = 2  # batches that the training process holds
MORE = "give it more room (docker run --shm-size=2g; mount -o remount,size=2g /dev/shm)"


def free_shared(folder: Path | None = None) -> float:
    """Bytes that processes can still share; infinite where the system keeps shared memory elsewhere."""
    try:
        return shutil.disk_usage(folder or SHARED).free
    except OSError:
        return inf


def semaphore_bytes(processes: int) -> int:
    """What the queues of a pool of processes take."""
    return mmap.PAGESIZE * (OF_ALL + OF_EACH * processes)


def room_for_batches(processes: int, batch_bytes: int) -> int:
    """What the batches of reading processes take at most."""
    return (AHEAD * processes + IN_USE) * batch_bytes


def processes_fault(processes: int) -> str:
    """Why other processes cannot be started to work with this one; "" if they can."""
    needed, free = semaphore_bytes(processes) / 1024, free_shared() / 1024
    if free < needed:
        return f"{SHARED} has {free:,.0f} KB free, and {processes} processes need {needed:,.0f} KB; {MORE}"
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as error:  # the folder is missing, read-only or full
        return f"this system gives no semaphores in {SHARED} ({error}); {MORE}"
    return ""
