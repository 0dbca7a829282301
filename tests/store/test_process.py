"""The process: freed memory is used again without new pages, signals request a stop, versions are told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError

import pytest

from store import process
from store.process import KEEPING, TOGETHER, WATCHED, installed_versions, stop_requests
from tests.support.places import ROOT

PAGES = 100_000_000 // os.sysconf("SC_PAGE_SIZE")
SCRIPT = """
import resource, sys, threading
import numpy as np
from store.process import keep_freed_memory

def fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(100_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "call" and not keep_freed_memory():
    sys.exit("this C library has no mallopt")
found = [fill(), fill()]
thread = threading.Thread(target=lambda: found.append(fill()))
thread.start(), thread.join()
print(*found)
"""


def page_faults(how: str, environment: dict[str, str]) -> list[int]:
    """Pages that the system had to clear for 100 MB: the first time, the second time, and on another thread."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )
    if "has no mallopt" in done.stderr:
        pytest.skip(done.stderr.strip())
    return [int(number) for number in done.stdout.split()]


@pytest.mark.parametrize(("how", "environment"), [("call", {}), ("inherit", KEEPING)])
def test_memory_that_was_freed_is_taken_again_without_new_pages(how: str, environment: dict[str, str]) -> None:
    first, again, on_a_thread = page_faults(how, environment)
    assert first > PAGES / 1000  # huge pages may be few
    assert again < first / 20
    assert on_a_thread < first / 20


def test_else_the_system_clears_pages_every_time() -> None:
    first, again, _ = page_faults("leave", {})
    assert again > first / 2


@pytest.fixture
def usual_interrupt() -> Iterator[None]:
    """Ctrl-C as Python has it: a library that was imported before may have taken it."""
    taken = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, taken)


@pytest.mark.usefixtures("usual_interrupt")
def test_the_first_signal_requests_a_stop_and_the_second_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    before = {number: signal.getsignal(number) for number in WATCHED}
    with stop_requests(said.append) as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGUSR1)
        assert stop.requested
        assert said == ["SIGUSR1: saving, then exiting; send the signal again to stop immediately"]
        now[0] += TOGETHER  # a scheduler and a launcher send one signal twice, or two of them
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        now[0] += 0.01
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert len(said) == 1
        assert {number: signal.getsignal(number) for number in WATCHED} == before  # a third one acts immediately
    assert {number: signal.getsignal(number) for number in WATCHED} == before


def test_handlers_are_restored_after_an_error() -> None:
    before = {number: signal.getsignal(number) for number in WATCHED}
    with suppress(KeyError), stop_requests(print):
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
        raise KeyError
    assert {number: signal.getsignal(number) for number in WATCHED} == before


def test_versions_are_those_of_the_distributions_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster may have opencv-python-headless, which installs the same package under another name."""
    installed = {"numpy": "2.4.6", "opencv-python-headless": "5.0.0"}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(process, "version", version)
    assert installed_versions(["numpy", "opencv-python", "none"]) == {
        "numpy": "2.4.6",
        "opencv-python": "5.0.0",
        "none": "unknown",
    }
    installed["opencv-python"] = "4.10.0"
    assert installed_versions(["opencv-python"]) == {"opencv-python": "4.10.0"}
