"""All that the doctor looks at, in the order of the page, and the page."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from store.doctor.disk import look_at_folder
from store.doctor.findings import Finding, Probe, any_problem, ask, write_json, write_page
from store.doctor.libraries import look_at_packages, look_at_python, look_at_torch
from store.doctor.machine import (
    look_at_caches,
    look_at_cores,
    look_at_memory,
    look_at_shared_memory,
    look_at_weights,
)

PROBES: dict[str, Probe] = {
    "python": look_at_python,
    "packages": look_at_packages,
    "torch": look_at_torch,
    "cpu": look_at_cores,
    "memory": look_at_memory,
    "shm": look_at_shared_memory,
    "weights": look_at_weights,
    "caches": look_at_caches,
}


def report(folders: Sequence[Path], *, as_json: bool) -> tuple[str, bool]:
    """The page as stdout can show it, or JSON, and whether something keeps the toolkit from working."""
    findings, coding = list(examine(folders)), sys.stdout.encoding or "ascii"
    text = write_json(findings) if as_json else write_page(findings)
    return text.encode(coding, "backslashreplace").decode(coding), any_problem(findings)


def examine(folders: Sequence[Path]) -> Iterator[Finding]:
    """What is found, one by one: the environment, the machine, each folder, or the working folder if none is given."""
    for name, probe in PROBES.items():
        yield from ask(name, probe)
    for folder in folders or [Path()]:
        yield from ask("folder", partial(look_at_folder, folder))
