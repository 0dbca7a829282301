"""A proxy in front of an S3 server that fails the way networks and servers fail, when a test asks for it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ALWAYS = 10**9
STALL = 5.0  # seconds at most; the proxy lets go when it closes


class Kind(Enum):
    """What goes wrong with a request."""

    ERROR = auto()  # it is answered with `status`
    CUT_UPLOAD = auto()  # the connection drops while the body goes up
    CUT_DOWNLOAD = auto()  # the connection drops while the body comes down
    LOST_ANSWER = auto()  # it is done, and the connection drops before the answer
    SHORT = auto()  # the answer is shorter than the object, and says so of itself
    STALL = auto()  # nothing comes back
    ALTERED = auto()  # one bit of the body flips on its way up
    SLOW = auto()  # the body goes up in small pieces


@dataclass
class Fault:
    """What happens to the next `times` requests of a method (any if empty) whose path holds `part`."""

    kind: Kind
    method: str = ""
    part: str = ""
    times: int = ALWAYS
    status: int = 503

    def takes(self, method: str, path: str) -> bool:
        hit = self.times > 0 and method == (self.method or method) and self.part in path
        self.times -= hit
        return hit


class Proxy(ThreadingHTTPServer):
    """Hands requests on to `target` (host, port); what `faults` say comes first."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.faults: list[Fault] = []
        self.failed: list[str] = []  # the requests that a fault hit
        self.altered: list[tuple[dict[str, str], bytes]] = []  # headers and body of uploads, as they were sent
        self.closing = threading.Event()
        self._one = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fail(self, kind: Kind, method: str = "", part: str = "", times: int = ALWAYS, status: int = 503) -> None:
        self.faults.append(Fault(kind, method, part, times, status))

    def fault_of(self, method: str, path: str) -> Fault | None:
        with self._one:
            fault = next((fault for fault in self.faults if fault.takes(method, path)), None)
            if fault:
                self.failed.append(f"{method} {path}")
            return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gives up is what the tests are about."""


@contextmanager
def faulty(target: tuple[str, int]) -> Iterator[Proxy]:
    """A proxy in front of `target` for a while."""
    proxy = Proxy(target)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body of an answer would wait 40 ms for each other

    def _serve(self) -> None:
        length, fault = int(self.headers.get("Content-Length", 0)), self.server.fault_of(self.command, self.path)
        kind = fault.kind if fault else None
        if kind is Kind.CUT_UPLOAD:
            self.rfile.read(length // 2)
            self._hang_up()
            return
        body = self._read_slowly(length) if kind is Kind.SLOW else self.rfile.read(length)
        if kind is Kind.STALL:
            self.server.closing.wait(STALL)
            self._hang_up()
        elif fault and kind is Kind.ERROR:
            self._answer(fault.status, {}, b"<Error><Code>Broken</Code><Message>a page\nof words</Message></Error>")
        else:
            if kind is Kind.ALTERED:
                self.server.altered.append((dict(self.headers), body))
                body = _flipped(body)
            status, headers, answer = self._ask(body)
            if kind in (Kind.CUT_DOWNLOAD, Kind.LOST_ANSWER):
                self._answer(status, headers, answer, sent=len(answer) // 2 if kind is Kind.CUT_DOWNLOAD else None)
                self._hang_up()
            elif kind is Kind.SHORT:
                self._answer(status, headers | {"Content-Length": str(len(answer) // 2)}, answer[: len(answer) // 2])
            else:
                self._answer(status, headers, answer)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve  # noqa: N815 - the names that http.server looks for

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.server.target)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            return response.status, dict(response.headers), response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, sent: int | None = -1) -> None:
        """Answer with the first `sent` bytes of the body; None: with nothing at all."""
        if sent is None:
            return
        self.send_response_only(status)
        kept = {name: text for name, text in headers.items() if name.lower() not in ("connection", "transfer-encoding")}
        for name, text in ({"Content-Length": str(len(body))} | kept).items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if sent < 0 else body[:sent])
        self.wfile.flush()

    def _read_slowly(self, length: int) -> bytes:
        pieces = []
        for _ in range(8):
            self.server.closing.wait(0.05)
            pieces.append(self.rfile.read(length // 8))
        return b"".join([*pieces, self.rfile.read(length % 8)])

    def _hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _flipped(body: bytes) -> bytes:
    return body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :]
