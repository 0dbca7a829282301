"""The memory that this process can still take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from store.machine.groups import MOUNTED, PROC, enclosing

MOST_BYTES = 2**62  # of a control group without a limit


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFiles:
    """Where a version of Linux control groups says how much memory a group may take, takes, and could drop."""

    limit: str
    used: str
    idle: str  # a line of memory.stat


VERSIONS = (
    GroupFiles(limit="memory.max", used="memory.current", idle="inactive_file"),
    GroupFiles(limit="memory.limit_in_bytes", used="memory.usage_in_bytes", idle="total_inactive_file"),
)


def spare_memory(proc: Path = PROC, mounted: Path = MOUNTED) -> int:
    """Bytes that this process can still take: what is free, or what its control group (Slurm, a container) has left.

    0 where the system does not say.
    """
    try:
        free = re.search(r"MemAvailable: +(\d+) kB", (proc / "meminfo").read_text(encoding="ascii"))
        spare = [1024 * int(free[1])] if free else [0]
        for group in enclosing("memory", proc, mounted):
            spare += _left_in(group)
    except (OSError, ValueError):
        return 0
    return max(0, min(spare))


def _left_in(group: Path) -> Iterator[int]:
    """Bytes that a control group may still take; files that it keeps in memory can go."""
    for files in VERSIONS:
        if (group / files.limit).is_file() and (limit := (group / files.limit).read_text(encoding="ascii").strip()):
            stat = (group / "memory.stat").read_text(encoding="ascii")
            idle = re.search(rf"^{files.idle} (\d+)$", stat, re.MULTILINE)
            used = int((group / files.used).read_text(encoding="ascii")) - (int(idle[1]) if idle else 0)
            yield int(limit) - used if limit != "max" else MOST_BYTES
