"""A polite stop: the first signal asks, and the work leaves where it is safe; the second one acts at once.

SIGINT is Ctrl-C, SIGTERM what schedulers and systems send, SIGUSR1 the warning that Slurm gives with `--signal`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass(slots=True)
class Stop:
    """Whether somebody asked the work to stop."""

    requested: bool = False


@contextmanager
def stop_requests(say: Callable[[str], None]) -> Iterator[Stop]:
    """Turn the first signal that is watched into a request that the caller looks at; `say` tells the person."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in WATCHED}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.requested = True
        restore()
        say(f"{signal.Signals(number).name}: leaving as soon as the work in hand is safe; once more stops at once")

    for number in WATCHED:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        restore()
