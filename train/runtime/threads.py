"""Threads of a run: as many as cores are free, since threads that wait for one another cost more than they bring.

Sums of more threads are rounded otherwise, so a run keeps the number of its first start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

import torch

STAT = Path("/proc/stat")
SPAN = 0.5  # s over which cores are watched
IDLE, WAITING = 4, 5  # columns of /proc/stat: a core that waits for a disk is free too


def settle_threads(wanted: int, recorded: int) -> int:
    """The number of threads: as set; else as `recorded`, if this process may have as many; else free cores.

    0 is not set, or not recorded. OMP_NUM_THREADS, which torchrun sets too, is the most.
    """
    most = torch.get_num_threads()
    if wanted or recorded:
        return wanted or min(recorded, most)
    if most == 1 or "OMP_NUM_THREADS" in os.environ or not STAT.exists():
        return most
    before, cores = STAT.read_text(encoding="ascii"), os.sched_getaffinity(0)
    time.sleep(SPAN)
    return max(1, min(most, free_cores(before, STAT.read_text(encoding="ascii"), cores)))


def free_cores(before: str, after: str, cores: Collection[int]) -> int:
    r"""How many of `cores` nobody used between two readings of /proc/stat, rounded.

    >>> free_cores("cpu0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0", "cpu0 9 0 1 40 0 0\ncpu1 50 0 0 0 0 0", {0, 1})
    1
    """
    earlier, later = (_ticks(text) for text in (before, after))
    free = 0.0
    for core in cores:
        spent = [b - a for a, b in zip(earlier[core], later[core], strict=True)]
        free += (spent[IDLE - 1] + spent[WAITING - 1]) / max(1, sum(spent))
    return round(free)


def _ticks(text: str) -> dict[int, list[int]]:
    rows = [line.split() for line in text.splitlines() if line.startswith("cpu") and line[3].isdigit()]
    return {int(name[3:]): [int(value) for value in values] for name, *values in rows}
