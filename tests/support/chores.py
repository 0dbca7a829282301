"""Work for other processes, which import this module and nothing heavy."""

from __future__ import annotations

import os
import time
from pathlib import Path

from store.schema import PictureError


def double(number: int) -> tuple[int, int]:
    """Twice the number, and who computed it."""
    return 2 * number, os.getpid()


def refuse_large(number: int) -> int:
    """An error from 5 on; the later, the sooner."""
    time.sleep(0.01 * (10 - number))
    if number >= 5:
        raise PictureError(f"picture {number} is broken")
    return number


def die(_: int) -> None:
    """End the process, as the system does when memory runs out."""
    os._exit(9)


def threads(_: int) -> dict[str, str]:
    """How many threads the libraries of this process would start."""
    return {name: value for name, value in os.environ.items() if name.endswith(("_THREADS", "_THREADS_NUM"))}


def wait_in(folder: Path, number: int) -> None:
    """Say in a file that this process works, then work for longer than any test."""
    (folder / f"{number}.pid").write_text(str(os.getpid()))
    time.sleep(600)
