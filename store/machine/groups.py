"""Linux control groups, which containers and schedulers use: where the limits of this process are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
MOUNTED = Path("/sys/fs/cgroup")


def enclosing(controller: str, proc: Path = PROC, mounted: Path = MOUNTED) -> Iterator[Path]:
    """The folder of the group that this process is in for a controller, and of each group around it.

    Of version 2, where one tree has all controllers, and of version 1. A folder need not exist: a container may see its
    own groups, and not those around it. Raises OSError or ValueError where the system does not say.
    """
    for line in (proc / "self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = mounted / controller if controllers else mounted
        inner = top / name.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))
