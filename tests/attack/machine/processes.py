"""Commands as real processes: run to their end, or started to be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.attack.machine.zygote import Request, encode
from tests.support.parallel import limit_threads
from tests.support.places import ROOT

TIMEOUT = 120.0  # s after which a command hangs
HUNG = 1000  # the exit code of a command that was killed after that time


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended: its exit code (negative: killed by a signal), what it said, how long it took."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float
    changes: int = 0


@dataclass(kw_only=True)
class Running:
    """A command that runs."""

    words: tuple[str, ...]
    number: int  # of its process, and of its group
    line: socket.socket
    files: Path
    began: float = field(default_factory=time.monotonic)

    def kill(self) -> None:
        """Kill the process and those that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.number, signal.SIGKILL)

    def wait(self, timeout: float = TIMEOUT) -> Done:
        """Wait for its end; a command that takes longer is killed, and its exit code is HUNG."""
        self.line.settimeout(max(0.001, timeout - (time.monotonic() - self.began)))
        try:
            code = int(self.line.makefile().readline() or "-9")
        except TimeoutError:
            self.kill()
            code = HUNG
        self.line.close()
        self.kill()  # what it started and left
        out, err, changes = (self._read(ending) for ending in ("out", "err", "changes"))
        seconds = time.monotonic() - self.began
        return Done(words=self.words, code=code, out=out, err=err, seconds=seconds, changes=int(changes or 0))

    def _read(self, ending: str) -> str:
        file = self.files.with_suffix(f".{ending}")
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


@dataclass
class Zygote:
    """The warmed process; commands run in children of it. Several threads may use it."""

    address: str
    scratch: Path
    started: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000_000)))

    def start(
        self,
        folder: Path,
        *words: object,
        environment: Mapping[str, str] | None = None,
        memory: int = 0,
        dies_at: int = 0,
    ) -> Running:
        """Start a command in a folder."""
        files = self.scratch / f"said-{next(self.started)}"
        said = tuple(map(str, words))
        request = Request(
            words=said,
            folder=str(folder),
            out=f"{files}.out",
            err=f"{files}.err",
            environment=dict(environment or {}),
            memory=memory,
            dies_at=dies_at,
            changes=f"{files}.changes",
        )
        line = socket.socket(socket.AF_UNIX)
        line.connect(self.address)
        line.sendall(encode(request))
        number = b""
        while not number.endswith(b"\n"):
            number += line.recv(1)
        return Running(words=said, number=int(number), line=line, files=files)

    def run(
        self,
        folder: Path,
        *words: object,
        environment: Mapping[str, str] | None = None,
        memory: int = 0,
        timeout: float = TIMEOUT,
    ) -> Done:
        """Run a command in a folder to its end."""
        return self.start(folder, *words, environment=environment, memory=memory).wait(timeout)


@contextmanager
def zygote(scratch: Path) -> Iterator[Zygote]:
    """Start the warmed process; it is ended afterwards."""
    environment = dict(os.environ)
    limit_threads(environment)
    environment["PYTHONPATH"] = str(ROOT)
    with socket.socket(socket.AF_UNIX) as listener, (scratch / "zygote.err").open("wb") as said:
        address = str(scratch / "socket")
        listener.bind(address)
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.attack.machine.zygote", str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            pass_fds=[listener.fileno()],
            cwd=ROOT,
            env=environment,
        )
    try:
        yield Zygote(address, scratch)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
