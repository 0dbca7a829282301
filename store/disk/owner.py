"""Which process holds a lock: the line in a lock file, and whether that process still lives.

A process is told from a later one of the same number by when it began, a machine by the boot of its kernel, a container
by its process namespace: names of hosts are for people only, many machines are called `localhost`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path

from store.schema import MagstainError
from store.settings import validate
from store.untrusted.text import printable

PROC = Path("/proc")
ENDED = ("Z", "X", "x")  # states of a process that has ended and is still listed: proc(5)


class Life(Enum):
    """What can be known here about a process: one of another machine or container cannot be looked up."""

    LIVING = "living"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process that holds a lock. `since` is by its own clock and for people; `token` makes every line another."""

    host: str
    kernel: str
    namespace: str
    pid: int
    began: str
    since: str
    token: str

    def __str__(self) -> str:
        return printable(f"pid {self.pid} on {self.host}, since {self.since}")

    @property
    def is_of_this_kernel(self) -> bool:
        """Whether it runs, or ran, under the kernel of this process, perhaps in another container."""
        return self.kernel == _kernel()

    @property
    def is_visible(self) -> bool:
        """Whether this process can look it up."""
        return (self.kernel, self.namespace) == (_kernel(), _namespace())

    @property
    def is_of_this_process(self) -> bool:
        """Whether it is the process that asks."""
        return self.is_visible and self.pid == os.getpid()

    @property
    def life(self) -> Life:
        """Whether the process still lives, as far as this machine knows."""
        if not self.is_visible:
            return Life.UNKNOWN
        return Life.LIVING if _lives(self.pid, self.began) else Life.DEAD


def this_process() -> Owner:
    """The process that asks, as the owner of a new lock."""
    return Owner(
        host=platform.node() or "an unnamed host",
        kernel=_kernel(),
        namespace=_namespace(),
        pid=os.getpid(),
        began=_began(os.getpid()),
        since=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        token=os.urandom(8).hex(),
    )


def encode(owner: Owner) -> bytes:
    """The line of a lock file."""
    return json.dumps(asdict(owner)).encode() + b"\n"


def decode(line: bytes) -> Owner | None:
    """The owner in a lock file; None if it names none: those of earlier versions are empty."""
    try:
        return validate(Owner, json.loads(line))
    except (ValueError, RecursionError, MagstainError):
        return None


def _lives(pid: int, began: str) -> bool:
    """Whether a process of this number lives and began then; of one that cannot be looked into the number counts."""
    if pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # a process of somebody else
        pass
    return _began(pid) in ("", began)


def _began(pid: int) -> str:
    """When a process began: in ticks of its kernel, or as `ps` says it; "" if that is hidden, "ended" if it ended."""
    if (PROC / "self/stat").exists():
        try:
            fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "ended" if fields[0] in ENDED else fields[19]  # fields 3 and 22 of proc(5)
    try:
        told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return told.stdout.strip()


@cache
def _kernel() -> str:
    """The boot of this machine's kernel, which no other has; where it has no name, the name of the host."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return platform.node()


def _namespace() -> str:
    """The namespace in which process numbers count: a container has its own."""
    try:
        return str((PROC / "self/ns/pid").readlink())
    except OSError:
        return ""
