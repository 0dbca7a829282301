"""The processor cores that this process may use: fewer than the machine has under a scheduler or in a container.

Libraries count cores in ways of their own: PyTorch and OpenBLAS know the affinity, and no quota. They read the
variables of `LIBRARIES`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from store.machine.groups import MOUNTED, PROC, enclosing

SCHEDULERS = {"SLURM_CPUS_PER_TASK": "Slurm", "NCPUS": "PBS", "NSLOTS": "Grid Engine"}  # whose variables count cores
LIBRARIES = (
    "OMP_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "TORCHINDUCTOR_COMPILE_THREADS",
)  # MKL, OpenBLAS read the first
LIMITED: set[str] = set()  # what `limit_libraries` set and nobody else had


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many cores something leaves to this process, and what that is."""

    cores: int
    what: str


def count_cores() -> int:
    """The processor cores that this process may use: what the tightest of its limits leaves, at least 1."""
    return min(limit.cores for limit in core_limits())


def core_limits(proc: Path = PROC, mounted: Path = MOUNTED) -> list[Limit]:
    """Everything that says how many cores this process may use, first what libraries see as well.

    A quota of a control group is processor time: 1.5 cores count as 2, because one thread would leave a third of it.
    """
    limits = [_affinity()]
    if quota := _quota(proc, mounted):
        limits.append(
            Limit(cores=max(1, ceil(quota)), what=f"a quota of {quota:g} cores (a container or control group)")
        )
    for variable, scheduler in SCHEDULERS.items():
        text = os.environ.get(variable, "")
        if text.isdecimal() and int(text):
            limits.append(Limit(cores=int(text), what=f"{scheduler} ({variable}={text})"))
    return limits


def limit_libraries() -> None:
    """Have libraries that are loaded later start no more threads than this process has cores.

    Where they count no more by themselves, and where a variable is set, nothing is changed.
    """
    cores = count_cores()
    if cores < _affinity().cores:
        for variable in LIBRARIES:
            if variable not in os.environ:
                os.environ[variable] = str(cores)
                LIMITED.add(variable)


def _affinity() -> Limit:
    if hasattr(os, "sched_getaffinity"):
        return Limit(cores=len(os.sched_getaffinity(0)), what="affinity (a scheduler, a container or taskset)")
    return Limit(cores=os.cpu_count() or 1, what="the machine")


def _quota(proc: Path, mounted: Path) -> float:
    """The least number of cores whose time a group of this process may take; 0 if none has a quota."""
    try:
        folders = list(enclosing("cpu", proc, mounted))
    except (OSError, ValueError):
        return 0
    return min((quota for folder in folders if (quota := _quota_of(folder)) > 0), default=0)


def _quota_of(folder: Path) -> float:
    """The quota in `cpu.max` (version 2) or in two files (version 1), in cores; not above 0 if none can be read."""
    try:
        return _read_quota(folder)
    except (OSError, ValueError, ZeroDivisionError):
        return 0


def _read_quota(folder: Path) -> float:
    if (both := folder / "cpu.max").is_file():
        quota, _, period = both.read_text(encoding="ascii").partition(" ")
        return 0 if quota == "max" else int(quota) / int(period)
    if (single := folder / "cpu.cfs_quota_us").is_file():
        return int(single.read_text(encoding="ascii")) / int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    return 0
