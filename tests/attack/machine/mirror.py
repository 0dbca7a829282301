"""A slow server of one weight file on the loopback interface, and that file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np

from store.files import digest_bytes
from store.weights import WeightFile

DATA = np.random.default_rng(0).bytes(400_000)
PIECES, PAUSE = 20, 0.01  # of an answer, and the seconds between two of them
SMALL = WeightFile(
    name="small.pth", size=len(DATA), sha256=digest_bytes(DATA), address="http://127.0.0.1/small.pth", what="a test"
)


class Handler(BaseHTTPRequestHandler):
    """Answers every request with the file, or with what a range of it leaves."""

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        body = DATA[int(asked.removeprefix("bytes=").removesuffix("-") or 0) :]
        if not body:
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {len(DATA) - len(body)}-{len(DATA) - 1}/{len(DATA)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        size = len(DATA) // PIECES
        with suppress(OSError):
            for begin in range(0, len(body), size):
                self.wfile.write(body[begin : begin + size])
                time.sleep(PAUSE)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def mirror() -> Iterator[str]:
    """The address of a running server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
