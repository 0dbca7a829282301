"""Threads of a run: a number that does not depend on what else runs, since sums of more threads are rounded otherwise.

A run keeps the number of its first start, and so does a translation that is resumed. Where other programs use the
cores, the start says that fewer may be faster.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from store.files import disk_errors, write_whole
from store.records.translation import Translation

STAT = Path("/proc/stat")
SPAN = 0.5  # s over which cores are watched
KEY = "threads"  # of the settings of a translation, and the name of the file that keeps it
MOST = 4096
IDLE, WAITING = 4, 5  # columns of /proc/stat: a core that waits for a disk is free too


def settle_threads(wanted: int, recorded: int) -> int:
    """The number of threads: as set; else as `recorded`, if this process may have as many; else as many as it may have.

    0 is not set, or not recorded. A process may have one for each of its cores, or OMP_NUM_THREADS.
    """
    most = torch.get_num_threads()
    return wanted or min(recorded or most, most)


def with_threads_of(folder: Path, record: Translation) -> Translation:
    """The record with the number of threads that is kept in a folder, if one is."""
    with suppress(OSError, ValueError):
        kept = int((folder / KEY).read_text(encoding="ascii"))
        if 1 <= kept <= MOST:
            return replace(record, settings=record.settings | {KEY: kept})
    return record


def keep_threads(folder: Path, record: Translation) -> None:
    """Compute with the threads of a record, and keep their number in a folder; 0 leaves both as they are."""
    threads = record.settings.get(KEY)
    if isinstance(threads, int) and threads > 0:
        torch.set_num_threads(threads)
        with disk_errors(folder):
            write_whole(folder / KEY, str(threads).encode())


def describe_busy_cores(threads: int) -> str:
    """What to try if fewer cores than `threads` are free; empty if all are, or if the system does not say."""
    if threads == 1 or not STAT.exists():
        return ""
    before, cores = STAT.read_text(encoding="ascii"), os.sched_getaffinity(0)
    time.sleep(SPAN)
    free = free_cores(before, STAT.read_text(encoding="ascii"), cores)
    if free >= min(threads, len(cores)):
        return ""
    fewer = max(1, free)
    return (
        f"other programs use {len(cores) - free} of {len(cores)} cores: steps take longer; threads={fewer} may be "
        f"faster than {threads}"
    )


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
