"""Freed memory stays in the process: the system has no pages to clear when it is taken again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from store.process import KEEPING
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

if sys.argv[1] == "tell" and not keep_freed_memory():
    sys.exit("this C library cannot be told")
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
    if "cannot be told" in done.stderr:
        pytest.skip(done.stderr.strip())
    return [int(number) for number in done.stdout.split()]


@pytest.mark.parametrize(("how", "environment"), [("tell", {}), ("inherit", KEEPING)])
def test_memory_that_was_freed_is_taken_again_without_new_pages(how: str, environment: dict[str, str]) -> None:
    first, again, on_a_thread = page_faults(how, environment)
    assert first > PAGES / 1000  # huge pages may be few
    assert again < first / 20
    assert on_a_thread < first / 20


def test_else_the_system_clears_pages_every_time() -> None:
    first, again, _ = page_faults("leave", {})
    assert again > first / 2
