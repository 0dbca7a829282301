"""Downloads from servers that misbehave, two at once, and after a kill: bounded, refused in a sentence, swept."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from time import monotonic, sleep

import numpy as np
import pytest

from store import weights
from store.__main__ import app
from store.foreign import download
from store.weights import WeightFile, fetch
from tests.support.command_line import CommandLine
from tests.support.disks import contents

DATA = np.random.default_rng(1).bytes(300_000)
SIZE, NAME = len(DATA), "net.pth"
OK = "HTTP/1.1 200 OK\r\n"
PAGE = b"<!DOCTYPE html><html><head><title>Confirm\x1b[2J the download</title></head></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 300000\n"


@dataclass
class Server:
    """What the server sends: a head, a body so many times with pauses between; then it closes or stays silent."""

    head: str = f"{OK}Content-Length: {SIZE}\r\n\r\n"
    body: bytes = DATA
    times: int = 1
    pause: float = 0
    stays: bool = False
    address: str = ""
    requests: int = 0
    sent: int = 0
    over: Event = field(default_factory=Event)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            state.requests += 1
            self.request.recv(65536)
            try:
                self.request.sendall(state.head.replace("ADDRESS", state.address).encode())
                for _ in range(state.times):
                    self.request.sendall(state.body)
                    state.sent += len(state.body)
                    if state.over.wait(state.pause):
                        return
            except OSError:  # the client has gone
                return
            if state.stays:
                state.over.wait(20)

    class Quiet(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Quiet(("127.0.0.1", 0), Handler) as listening:
        Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        state.address = f"http://127.0.0.1:{listening.server_address[1]}/{NAME}"
        yield state
        state.over.set()
        listening.shutdown()


@pytest.fixture
def weight(server: Server, monkeypatch: pytest.MonkeyPatch) -> WeightFile:
    """The one file of the table, which the server is to have."""
    made = WeightFile(
        name=NAME, size=SIZE, sha256=hashlib.sha256(DATA).hexdigest(), address=server.address, what="a net"
    )
    monkeypatch.setattr(weights, "WEIGHT_FILES", {NAME: made})
    return made


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine("store", app, monkeypatch, capsys)


def said(length: object) -> str:
    return f"{OK}Content-Length: {length}\r\n\r\n"


ANSWERS = {  # what the server does, and a part of the sentence
    "endless": (Server(head=f"{OK}\r\n", body=DATA, times=10_000), "it has more than 300,000 bytes"),
    "endless chunks": (
        Server(
            head=f"{OK}Transfer-Encoding: chunked\r\n\r\n", body=b"10000\r\n" + DATA[:65536] + b"\r\n", times=50_000
        ),
        "it has more than 300,000 bytes",
    ),
    "one byte more": (Server(head=f"{OK}\r\n", body=DATA + b"!"), "it has more than 300,000 bytes"),
    "a length that is too large": (Server(head=said(10**15)), "it has 1,000,000,000,000,000 bytes"),
    "a length beyond all": (Server(head=said("9" * 9000)), "it has 99,999,999,999,999,999,999 bytes"),
    "a length that is too small": (Server(head=said(1000)), "it has 1,000 bytes"),
    "the length of nothing": (Server(head=said(0), body=b""), "it has 0 bytes"),
    "nothing": (Server(head=f"{OK}\r\n", body=b""), "it has no bytes"),
    "no content": (Server(head="HTTP/1.1 204 No Content\r\n\r\n", body=b""), "it has no bytes"),
    "a page": (Server(head=f"{OK}\r\n", body=PAGE), r"it is a web page ('Confirm\x1b[2J the download')"),
    "a page with its length": (Server(head=said(len(PAGE)), body=PAGE), "it is a web page"),
    "a long page": (Server(head=f"{OK}\r\n", body=PAGE * 9000), "it is a web page"),
    "a pointer": (Server(head=said(len(POINTER)), body=POINTER), "it is a Git LFS pointer, which only names the"),
    "an archive": (Server(head=f"{OK}\r\n", body=b"\x1f\x8b" + DATA), "it is a gzip archive: unpack it"),
    "other bytes": (Server(body=DATA[::-1]), "it has sha256"),
    "not found": (Server(head="HTTP/1.1 404 Not Found\r\n\r\n", body=PAGE), "the server answers 404 Not Found"),
    "a failure": (Server(head="HTTP/1.1 503 \x1b[2J\r\n\r\n", body=b""), "the server answers 503 ?[2J"),
    "a circle": (
        Server(head="HTTP/1.1 302 Found\r\nLocation: ADDRESS\r\n\r\n", body=b""),
        "the server answers 302 The",
    ),
    "elsewhere": (
        Server(head="HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", body=b""),
        "the server answers 302",
    ),
    "no HTTP": (Server(head="SSH-2.0-OpenSSH_9\r\n", body=b""), "cannot fetch"),
    "no answer": (Server(head="", body=b""), "cannot fetch"),
    "endless headers": (Server(head=OK, body=b"X-More: 1\r\n", times=10**6), "cannot fetch"),
    "a header without end": (Server(head=f"{OK}X: ", body=b"x" * 10**5, times=10**4), "cannot fetch"),
    "a part that was not asked for": (
        Server(head=f"HTTP/1.1 206 Partial Content\r\nContent-Length: {SIZE}\r\n\r\n", body=DATA[::-1]),
        "it has sha256",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_is_not_the_file_is_refused_in_a_sentence_and_leaves_nothing(
    case: str, server: Server, weight: WeightFile, command: CommandLine, tmp_path: Path
) -> None:
    answer, sentence = ANSWERS[case]
    server.head, server.body, server.times = answer.head, answer.body, answer.times
    outcome = command("weights", "--folder", tmp_path)
    assert outcome.code == 2
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert sentence in line
    for told in (server.address, "300,000 bytes", weight.sha256, str(tmp_path), "by hand", "--from"):
        assert told in line
    assert line.isprintable()
    assert contents(tmp_path) == {}
    assert server.sent < 40_000_000  # what the buffers of the system and of the connection hold


def test_no_more_than_the_expected_size_is_ever_written(
    server: Server, weight: WeightFile, command: CommandLine, tmp_path: Path
) -> None:
    server.head, server.times = f"{OK}\r\n", 10_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, before[1]))
    try:
        outcome = command("weights", "--folder", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "it has more than 300,000 bytes" in outcome.err


@pytest.mark.parametrize("begun", [0, 1, 150_000])
@pytest.mark.parametrize("head", ["", OK, said(SIZE)])
def test_silence_ends_a_download(
    server: Server, weight: WeightFile, command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    begun: int, head: str,
) -> None:  # fmt: skip
    if begun and not head.endswith("\r\n\r\n"):
        return
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.head, server.body, server.stays = head, DATA[:begun], True
    start = monotonic()
    outcome = command("weights", "--folder", tmp_path)
    assert outcome.code == 2
    assert f"cannot fetch {server.address}: nothing came for 0.2 s" in outcome.err
    assert "run the same command again to resume" in outcome.err
    assert monotonic() - start < 5
    assert contents(tmp_path) == ({f"{NAME}.partial": DATA[:begun]} if begun else {})


def test_a_trickle_ends(
    server: Server, weight: WeightFile, command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "WINDOW", 0.3)
    server.body, server.times, server.pause = b"x", SIZE, 0.01
    outcome = command("weights", "--folder", tmp_path)
    assert outcome.code == 2
    assert "or less than 65,536 bytes in 0.3 s" in outcome.err


@pytest.mark.parametrize("head", ["HTTP/1.1 200", f"{OK}X-More: "])
def test_a_head_that_drips_ends(
    server: Server, weight: WeightFile, command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    monkeypatch.setattr(download, "WINDOW", 0.3)
    server.head, server.body, server.times, server.pause = head, b"a", SIZE, 0.01
    begun = monotonic()
    outcome = command("weights", "--folder", tmp_path)
    assert outcome.code == 2
    assert "or less than 65,536 bytes in 0.3 s" in outcome.err
    assert monotonic() - begun < 5
    assert contents(tmp_path) == {}


def test_a_connection_that_stays_open_after_the_last_byte_does_no_harm(
    server: Server, weight: WeightFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.head, server.stays = f"{OK}\r\n", True
    assert fetch(weight, tmp_path).read_bytes() == DATA


FETCH = """
import sys
from pathlib import Path
from store import weights
from store.cli import run_app
from store.__main__ import app
name, size, sha256, address, folder = sys.argv[1:]
made = weights.WeightFile(name=name, size=int(size), sha256=sha256, address=address, what="a net")
weights.WEIGHT_FILES = {made.name: made}
sys.argv = ["store", "weights", "--folder", folder]
run_app(app)
"""


def start(weight: WeightFile, folder: Path) -> subprocess.Popen[str]:
    words = [weight.name, str(weight.size), weight.sha256, weight.address, str(folder)]
    return subprocess.Popen([sys.executable, "-c", FETCH, *words], stderr=subprocess.PIPE, text=True)


def test_of_two_at_once_one_waits_and_both_have_the_file(server: Server, weight: WeightFile, tmp_path: Path) -> None:
    server.body, server.times, server.pause = DATA[:30_000], 10, 0.1
    weight = WeightFile(
        name=NAME, size=SIZE, sha256=hashlib.sha256(DATA[:30_000] * 10).hexdigest(), address=server.address, what="net"
    )
    both = [start(weight, tmp_path) for _ in range(2)]
    told = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert contents(tmp_path) == {NAME: DATA[:30_000] * 10}
    assert server.requests == 1
    assert sum("is being fetched by another process; waiting for it" in text for text in told) == 1


def test_the_next_download_continues_after_a_kill_and_also_sees_to_the_one_that_waited(
    server: Server, weight: WeightFile, tmp_path: Path
) -> None:
    server.body, server.stays = DATA[:100_000], True
    partial = tmp_path / f"{NAME}.partial"
    killed = start(weight, tmp_path)
    while not (partial.exists() and partial.stat().st_size == 100_000):
        assert killed.poll() is None
        sleep(0.02)
    waiting = start(weight, tmp_path)
    assert waiting.stderr is not None
    while "waiting for it" not in (line := waiting.stderr.readline()):
        assert line
    server.head = f"HTTP/1.1 206 Partial Content\r\nContent-Length: {SIZE - 100_000}\r\n\r\n"
    server.body = DATA[100_000:]
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=20)
    waiting.communicate(timeout=20)
    assert waiting.returncode == 0
    assert contents(tmp_path) == {NAME: DATA}


def test_left_overs_beside_a_finished_file_are_swept_unless_they_are_in_use(
    server: Server, weight: WeightFile, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(DATA)
    partial = tmp_path / f"{NAME}.partial"
    with download.alone(partial, lambda: pytest.fail("nobody else holds it")):
        partial.write_bytes(b"of a live download")
        fetch(weight, tmp_path)
        assert partial.read_bytes() == b"of a live download"
    fetch(weight, tmp_path)
    assert contents(tmp_path) == {NAME: DATA}
    assert server.requests == 0
