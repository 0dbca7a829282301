"""A process that has imported the programs and forks a child for each command: a process that starts in 40 ms.

A program that imports torch takes seconds to start, so that thousands of real processes, which can be killed, limited
and left hanging, would take hours. This process only imports: it has one thread and no work, so that a fork is safe.
It serves requests, one JSON line each, on a socket; it answers with the child's number, and when the child ended with
its exit code (negative: a signal). It ends when its standard input is closed.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command in a folder: its words, added environment, and files for what it says.

    `memory` bytes may be allocated beyond what the process has at its start; 0 is no limit. It dies by SIGKILL before
    its `dies_at`-th change of a file; 0 is never. The number of changes is written to `changes` at a proper end.
    """

    words: tuple[str, ...]
    folder: str
    out: str
    err: str
    environment: dict[str, str]
    memory: int = 0
    dies_at: int = 0
    changes: str = ""


def encode(request: Request) -> bytes:
    """A request as a line."""
    return json.dumps(asdict(request)).encode() + b"\n"


def serve(listener: socket.socket, run: Callable[[tuple[str, ...]], int]) -> None:
    """Fork a child for each connection and report its end there, until standard input is closed."""
    woken, wakes = socket.socketpair()
    for each in (woken, wakes):
        each.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listener, woken, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        if listener in ready:
            caller, _ = listener.accept()
            request = Request(**json.loads(caller.makefile().readline()))
            child = os.fork()
            if child == 0:
                for each in (listener, woken, wakes, caller, *running.values()):
                    each.close()
                become(request, run)
            running[child] = caller
            answer(caller, child)
        if woken in ready:
            woken.recv(4096)
        while running:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                break
            with running.pop(child) as caller:
                answer(caller, os.waitstatus_to_exitcode(status))


def answer(caller: socket.socket, number: int) -> None:
    """Say a number to a caller, who may have left."""
    with suppress(OSError):
        caller.sendall(f"{number}\n".encode())


def become(request: Request, run: Callable[[tuple[str, ...]], int]) -> NoReturn:
    """Turn this forked process into the command."""
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for name, number in ((os.devnull, 0), (request.out, 1), (request.err, 2)):
            file = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
            os.dup2(file, number)
            os.close(file)
        os.chdir(request.folder)
        os.environ.update(request.environment)
        if request.memory:
            limit_memory(request.memory)
        made = watch_changes(request.dies_at)
        code = run(tuple(request.words))
        if request.changes:
            with open(request.changes, "w") as file_:  # noqa: PTH123 - Path.open would count as well
                file_.write(str(made[0]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def limit_memory(more: int) -> None:
    """Allow this process so many more bytes of address space."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def watch_changes(dies_at: int) -> list[int]:
    """Count what changes files from now on, in a list of one number; die before change number `dies_at`."""
    made = [0]
    here = os.getpid()

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if (writes or event in CHANGES) and os.getpid() == here:
            made[0] += 1
            if made[0] == dies_at:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(watch)
    return made


def main() -> None:
    """Import everything, and serve on the socket whose number is the argument."""
    from tests.attack.machine.inside import run, warm

    warm()
    serve(socket.socket(fileno=int(sys.argv[1])), run)


if __name__ == "__main__":
    main()
