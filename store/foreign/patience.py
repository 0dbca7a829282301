"""HTTP requests whose answer must begin within a time, however steadily its head drips."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import SHUT_RDWR, socket
from threading import Event, Timer
from typing import Any


def open_patiently(request: urllib.request.Request, silence: float, head: float) -> Any:
    """The response to a request.

    Raises TimeoutError after `silence` seconds without a byte, and when its head is not there after `head` seconds; and
    what `urllib` raises.
    """

    class Plain(HTTPConnection):
        def getresponse(self) -> HTTPResponse:
            with _hanging_up(self.sock, head):
                return super().getresponse()

    class Secure(HTTPSConnection):
        def getresponse(self) -> HTTPResponse:
            with _hanging_up(self.sock, head):
                return super().getresponse()

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> HTTPResponse:
            return self.do_open(Plain, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> HTTPResponse:
            return self.do_open(Secure, req)

    return urllib.request.build_opener(PlainHandler, SecureHandler).open(request, timeout=silence)


@contextmanager
def _hanging_up(sock: socket, seconds: float) -> Iterator[None]:
    """Shut a connection down if the block takes longer, which ends the block; raises TimeoutError then."""
    late = Event()

    def hang_up() -> None:
        late.set()
        with suppress(OSError):
            sock.shutdown(SHUT_RDWR)

    timer = Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException):
        if not late.is_set():
            raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError
