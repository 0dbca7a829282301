"""Everything that a GPU does with this program, as one page of Markdown, in under six minutes: run it once on a card.

    python -m tests.bench.gpu > table.md

Each part has a process of its own, so that none sees what another left or broke, and its share of the time: rows that
do not come in time are named. What a part leaves on the disk goes with the page, also where its time was up. Networks
have seeded weights. `--dry-run` runs every part on the CPU at tiny sizes, in this process; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from store.process import bound_workspaces, installed_versions
from tests.bench.gpu_machine import Machine, measure_ceilings, one_line

PACKAGES = ("torch", "triton", "numpy", "basicsr")
GRACE = 10  # s that a part may take to end after its time
FAILED = 4  # the exit code of a part that has said why, which Python has no use for


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is measured, its share of the time in seconds, and what prints it."""

    title: str
    seconds: int
    measure: Callable[[Machine], None]


def _ways(machine: Machine) -> None:
    from tests.bench.gpu_steps import measure_ways

    measure_ways(machine)


def _start(machine: Machine) -> None:
    from tests.bench.gpu_steps import measure_start

    measure_start(machine)


def _steps(machine: Machine) -> None:
    from tests.bench.gpu_steps import measure_steps

    measure_steps(machine)


def _fit(machine: Machine) -> None:
    from tests.bench.gpu_work import measure_fit

    measure_fit(machine)


def _super(machine: Machine) -> None:
    from tests.bench.gpu_super import measure_super_resolution

    measure_super_resolution(machine)


def _build(machine: Machine) -> None:
    from tests.bench.gpu_work import measure_build

    measure_build(machine)


def _predict(machine: Machine) -> None:
    from tests.bench.gpu_work import measure_predict

    measure_predict(machine)


def _score(machine: Machine) -> None:
    from tests.bench.gpu_work import measure_score

    measure_score(machine)


PARTS = {  # each imports what it needs itself, so that a package that is missing costs one part
    "ceilings": Part(title="What the card can do at most", seconds=10, measure=measure_ceilings),
    "start": Part(
        title="From the start of the process to replayed steps, nothing compiled", seconds=40, measure=_start
    ),
    "ways": Part(title="A training step, way by way", seconds=60, measure=_ways),
    "fit": Part(title="Training from a store", seconds=35, measure=_fit),
    "steps": Part(title="A training step of every method in every precision", seconds=70, measure=_steps),
    "super": Part(title="Super-resolution, host to host", seconds=50, measure=_super),
    "build": Part(title="A build", seconds=35, measure=_build),
    "predict": Part(title="Translating", seconds=30, measure=_predict),
    "score": Part(title="Scoring without networks", seconds=15, measure=_score),
}


def heading(machine: Machine) -> str:
    """Card, driver, cores and versions."""
    versions = ", ".join(f"{name} {found}" for name, found in installed_versions(PACKAGES).items())
    if not machine.cuda:
        return f"# A dry run on the CPU: its numbers mean nothing\n\n{versions}"
    card = torch.cuda.get_device_properties(machine.device)
    drivers = "nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"
    try:
        driver = subprocess.run(drivers, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch
    cores = len(os.sched_getaffinity(0))
    return (
        f"# {card.name}\n\n{card.total_memory / 1e9:.0f} GB, compute capability {card.major}.{card.minor}, driver "
        f"{driver}, CUDA {torch.version.cuda}, cuDNN {cudnn}; {cores} cores, Python {platform.python_version()}, "
        f"{versions}"
    )


def run_here(name: str, machine: Machine) -> bool:
    """Run a part in this process; False, and a line, if it failed."""
    try:
        PARTS[name].measure(machine)
    except ModuleNotFoundError as error:  # of a package that this part needs
        print(f"\nnot measured: {error}")
    except Exception as error:  # whatever a card, a driver or a compiler cannot do: the other parts go on
        print(f"\nfailed: {one_line(error)}", flush=True)
        return False
    return True


def run_beside(name: str, until: float, scratch: Path) -> bool:
    """Run a part in a process of its own until about that second of the clock; False, and a line, if it failed.

    `scratch` is its folder for temporary files and for what the compiler keeps.
    """
    words = ["--part", name, "--began", str(time.time()), "--until", str(until)]
    command = [sys.executable, "-u", "-m", "tests.bench.gpu", *words]
    with tempfile.TemporaryFile("w+") as messages:
        try:
            timeout = max(GRACE, until + GRACE - time.time())
            there = os.environ | {"TMPDIR": str(scratch), "TRITON_CACHE_DIR": str(scratch / "triton")}
            code = subprocess.run(command, stderr=messages, check=False, timeout=timeout, env=there).returncode
        except subprocess.TimeoutExpired:
            print("\nfailed: the time was up", flush=True)
            return False
        if code not in (0, FAILED):
            messages.seek(0)
            last = (messages.read().strip().splitlines() or ["no reason given"])[-1]
            print(f"\nfailed: exit code {code}: {last[:300]}", flush=True)
    return code == 0


def main(words: Sequence[str] | None = None) -> int:
    """The page, or a part of it; returns 0, or FAILED if a part failed."""
    parser = argparse.ArgumentParser(description="Everything that a GPU does with this program, in six minutes.")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--part", choices=list(PARTS), help="one part in this process, which began at")
    parser.add_argument("--began", type=float, default=time.time(), help="this second of the clock")
    parser.add_argument("--until", type=float, default=time.time() + 600, help="and ends at about this one")
    asked = parser.parse_args(words)
    if not asked.dry_run and not torch.cuda.is_available():
        print("no NVIDIA GPU here: nothing is measured; `python -m tests.bench.gpu --dry-run` tries it on the CPU")
        return 0
    device = torch.device("cpu" if asked.dry_run else "cuda:0")
    machine = Machine(device=device, dry=asked.dry_run, began=asked.began, until=asked.until)
    if asked.part:
        return 0 if run_here(asked.part, machine) else FAILED
    return print_page(asked.only, machine)


def print_page(names: Sequence[str], machine: Machine) -> int:
    """Print these parts, each beginning where the one before ended: time that one leaves is for the next ones."""
    start = until = time.time()
    print(heading(machine), flush=True)
    failed = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        for name in names:
            print(f"\n## {PARTS[name].title}\n", flush=True)
            until += PARTS[name].seconds
            if not (run_here(name, machine) if machine.dry else run_beside(name, until, Path(scratch))):
                failed.append(name)
    print(f"\n{time.time() - start:.0f} s in all" + f"; failed: {', '.join(failed)}" * bool(failed))
    return FAILED if failed else 0


if __name__ == "__main__":
    bound_workspaces()
    if not Path("pyproject.toml").exists():
        sys.exit("run it from the root of the checkout: python -m tests.bench.gpu")
    sys.exit(main())
