"""Tests in several processes (`pytest -n 2`): by module, the longest first, and one thread in each process.

The fixtures of a module are built once, because its tests stay together. Two workers with two threads each were slower
than one worker: torch's threads wait for each other in a loop, and the cores are shared.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from xdist.scheduler import LoadScopeScheduling

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


def limit_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """One thread for torch, BLAS and OpenCV in the processes that are started from now on, unless it is set."""
    for variable in THREADS:
        environment.setdefault(variable, "1")


class ByModule(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """A worker takes the next module, in the order of collection, when it has nearly finished one."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0]
