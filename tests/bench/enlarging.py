"""A whole build with super-resolution against the network alone: how much of the network's own rate is left.

The network alone enlarges the very windows of the build, half of them before and half after it, with the pictures in
memory. The build is the whole command after its imports and after the network is loaded: check, plan, read, cut,
enlarge, pack, write, sync, seal.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path

import prep.build.pipeline as room
from prep.build.describe import describe_plan
from prep.build.plan import BuildPlan, make_plan
from prep.build.run import build
from prep.build.runner import Processes
from prep.build.units import Loaded, enlarge_unit, read_unit
from prep.settings import Enlarger
from prep.tiles.decoded import expecting
from prep.tiles.discovery import Data
from prep.upscaling.choosing import choose
from prep.upscaling.upscale import Enlarges, make_upscaler
from store.format.manifest import all_units
from store.process import keep_freed_memory
from tests.bench.networks import installed
from tests.bench.pipeline import THREADS, settings, write_pairs

PAIRS, UNIT = 6, 2  # a GPU needs more: its batches are as large as a unit allows


def load_units(plan: BuildPlan) -> list[Loaded]:
    """Every unit with its windows in memory."""
    with ThreadPoolExecutor(THREADS) as pool:
        return [
            read_unit(plan.work, unit, pairs, pool, expecting(pairs))
            for unit in all_units(plan.manifest)
            for pairs in [plan.table.pairs[unit.split][unit.first : unit.stop]]
        ]


def time_network(units: list[Loaded], upscaler: Enlarges) -> float:
    """Seconds to enlarge what is in memory."""
    start = time.perf_counter()
    for unit in units:
        enlarge_unit(unit, upscaler)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print the table."""
    keep_freed_memory()  # as the command does
    parser = argparse.ArgumentParser(description="A build with super-resolution against the network alone.")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--unit", type=int, default=UNIT)
    asked = parser.parse_args()
    pairs, unit = asked.pairs, asked.unit
    with installed() as weights, tempfile.TemporaryDirectory() as name, redirect_stderr(StringIO()):
        data = Data(he=Path(name) / "tiles", ihc=Path(name) / "tiles")
        write_pairs(data.he, pairs, held_out=unit)
        chosen = replace(choose(settings(upscaler=Enlarger.BSRGAN, unit=unit)), name="tiles")
        plan = make_plan(chosen, data, threads=THREADS)
        units, upscaler = load_units(plan), make_upscaler(plan.work.upscaler)
        time_network(units[:1], upscaler)  # warms up
        half = len(units) // 2
        alone = time_network(units[:half], upscaler)
        room.make_upscaler = lambda _: upscaler  # type: ignore[assignment, attr-defined] # the same one, loaded already
        start = time.perf_counter()
        build(chosen, data, Path(name) / "s.zarr", skip_bad=False, processes=Processes(threads=THREADS))
        whole = time.perf_counter() - start
        alone += time_network(units[half:], upscaler)
    print(f"{weights}; {chosen.precision} on {chosen.device}, batches of {chosen.batch}\n")
    print("```\n" + describe_plan(plan) + "\n```\n")
    print("| | seconds | pairs/minute | of the network alone |\n|---|--:|--:|--:|")
    print(f"| the network alone | {alone:.1f} | {60 * pairs / alone:.2f} | 100% |")
    print(f"| prep build, {THREADS} threads | {whole:.1f} | {60 * pairs / whole:.2f} | {alone / whole:.1%} |")


if __name__ == "__main__":
    main()
