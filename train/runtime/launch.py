"""Several processes on this machine that train one run, started and ended together; a member of them is told its rank.

torchrun does the same on several machines, but its exit code is 1 whatever the processes end with, it kills them 30 s
after a SIGTERM, and dies of a SIGUSR1 without telling them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

from store.cli import DONE, OUR_BUG, RUN_AGAIN, YOUR_INPUT
from store.machine.cores import LIMITED, count_cores
from store.process import WATCHED

GRACE = 30.0  # s that the others have to end after one failed; they may wait for it forever
POLL = 0.1  # s
SIGNALLED = 128  # a shell's exit code for a process that a signal ended, less the signal


@dataclass(frozen=True, slots=True)
class Launcher:
    """The process that started this one among others: `pid`, or 0 if this process was started alone."""

    pid: int

    @property
    def is_gone(self) -> bool:
        """Whether it died: nobody else can tell this process to stop then."""
        return bool(self.pid) and os.getppid() != self.pid


def is_member() -> bool:
    """Whether `launch` or torchrun started this process."""
    return "LOCAL_RANK" in os.environ


def is_first() -> bool:
    """Whether this process writes messages: it is alone, or the first of all."""
    return os.environ.get("RANK", "0") == "0"


def find_launcher() -> Launcher:
    """The process that started this one; call it early."""
    return Launcher(os.getppid() if is_member() else 0)


def launch(count: int) -> int:
    """Run the command of this process in `count` processes, and pass signals on to them; returns the exit code.

    It is 2 if one was refused, else what one failed with, else 3 if one was stopped, else 0.
    """
    members: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        pass_on(number)

    def pass_on(number: int) -> None:
        for member in members:
            member.send_signal(number)

    before = {number: signal.signal(number, receive) for number in WATCHED}
    try:
        port = _free_port()
        members += [_start(rank, count, port) for rank in range(count)]
        for number in received:  # while they were started
            pass_on(number)
        _wait(members)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    codes = [member.returncode for member in members]
    return exit_code([RUN_AGAIN if received and code < 0 else code for code in codes])  # ended before it could listen


def exit_code(codes: Sequence[int]) -> int:
    """The exit code that stands for those of all processes; -N is a process that signal N ended.

    >>> exit_code([3, 3]), exit_code([2, 1]), exit_code([1, -9]), exit_code([0, 0])
    (3, 2, 137, 0)
    """
    if YOUR_INPUT in codes:
        return YOUR_INPUT
    if min(codes) < 0:
        return SIGNALLED - min(codes)
    failed = [code for code in codes if code not in (DONE, RUN_AGAIN)]
    return OUR_BUG if failed else max(codes)


def _start(rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C in a terminal reaches it once, from the launcher."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    defaults = {"OMP_NUM_THREADS": str(max(1, count_cores() // count))}
    given = {name: value for name, value in os.environ.items() if name not in LIMITED}  # that is for a lone process
    environment = defaults | given | {name: str(value) for name, value in told.items()}
    environment["MASTER_ADDR"] = "127.0.0.1"
    return subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environment, start_new_session=True)


def _wait(members: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until all have ended; those that remain `GRACE` after one failed are killed."""
    failed_at: float | None = None
    while any(member.poll() is None for member in members):
        if failed_at is None and any(member.poll() not in (None, DONE, RUN_AGAIN) for member in members):
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at > GRACE:
            for member in members:
                member.kill()
        time.sleep(POLL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
