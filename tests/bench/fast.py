"""A step of ASP as `train` takes it against the same step written plainly (`tests/bench/plain.py`): time and memory.

Published widths, batch 1. The plain way is contiguous float32; the fast way is what `train` resolves `auto` to here, as
it is written and compiled. Each way has a process of its own and they take turns; a number is the best of its rounds.
Kept bytes are those of `train/cost.py`, in the precision of each way; peak memory is what networks, steps and, if
there is one, the compiler add to a process.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from store.process import keep_freed_memory
from tests.bench.plain import PlainAsp
from tests.support.stepping import decide
from train.data.batch import Batch
from train.describe import saved_tensors, storage_bytes
from train.loop.step import OptimisationStep, frozen_except, make_optimisers, step_generator, trial_step
from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.networks.compiling import compile_passes
from train.runtime.device import Compute, resolve
from train.settings import Precision, TrainSettings

SIDES = (256, 512)  # px
ROUNDS = 3
PROGRESS = 0.5
Step = Callable[[int], object]
"""Takes the step of that number."""


def published() -> TrainSettings:
    """ASP as published."""
    return load_recipe([], ["method=asp"])


def draw_pictures(side: int) -> tuple[Tensor, Tensor]:
    """A pair of noise, contiguous, signed [1,3,S,S]."""
    he, ihc = torch.rand(2, 1, 3, side, side, generator=torch.Generator().manual_seed(0)).mul(2).sub(1)
    return he, ihc


def channels_last(side: int) -> Batch:
    """The same pair as `train` hands it over."""
    he, ihc = (picture.contiguous(memory_format=torch.channels_last) for picture in draw_pictures(side))
    return Batch(he=he, ihc=ihc)


def make_plain(side: int) -> Step:
    """The plain way."""
    plain = PlainAsp(published())
    he, ihc = draw_pictures(side)
    return lambda number: plain.step(he, ihc, PROGRESS, step_generator(0, number))


def make_fast(side: int, *, compiled: bool = False) -> Step:
    """The way of `train`, as `train.build` builds it."""
    keep_freed_memory()  # as the command does
    settings, compute, batch = published(), resolve("cpu", Precision.AUTO), channels_last(side)
    method = build_method(settings)
    for module in method.modules().values():
        compute.place(module)
    optimisers = make_optimisers(method, settings.optimiser, fused=True)
    if compiled:
        start = time.monotonic()
        reason = compile_passes(method.modules(), lambda: trial_step(method, compute, batch))
        assert not reason, reason
        print(f"{side} px compiled in {time.monotonic() - start:.0f} s", file=sys.stderr)
    step = OptimisationStep(method, optimisers, compute)

    def take(number: int) -> None:
        step([batch], [decide(method, batch, PROGRESS, step_generator(0, number))])

    return take


WAYS: dict[str, Callable[[int], Step]] = {
    "plain": make_plain,
    "fast": make_fast,
    "compiled": lambda side: make_fast(side, compiled=True),
}


class Runner:
    """A way in a process of its own, which takes a step when it is told to."""

    def __init__(self, way: str, side: int) -> None:
        words = [sys.executable, "-m", "tests.bench.fast", "--serve", way, "--side", str(side)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def take(self) -> Taken:
        """One step."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, peak = self.process.stdout.readline().split()
        return Taken(float(seconds), int(peak))

    def close(self) -> None:
        """No more."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Taken(NamedTuple):
    """Seconds of a step, and the bytes by which the way has raised the peak memory of its process."""

    seconds: float
    peak: int


def serve(way: str, side: int) -> None:
    """Take a step for every line of stdin."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = WAYS[way](side)
    for number, _ in enumerate(sys.stdin, start=1):
        start = time.perf_counter()
        step(number)
        seconds = time.perf_counter() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        print(seconds, grown, flush=True)


def clock(side: int, rounds: int, ways: Sequence[str]) -> dict[str, Taken]:
    """Seconds of a step of each way, the best of its rounds; one more round warms up. Peaks are the last ones."""
    runners = {way: Runner(way, side) for way in ways}
    taken: dict[str, list[Taken]] = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way, runner in runners.items():
            taken[way].append(runner.take())
    for runner in runners.values():
        runner.close()
    return {way: Taken(min(step.seconds for step in steps[1:]), steps[-1].peak) for way, steps in taken.items()}


def kept_by_plain(side: int) -> int:
    """The most bytes that the plain step keeps at once."""
    with FakeTensorMode():
        plain, generator = PlainAsp(published()), step_generator(0, 1)
        he, ihc = torch.empty(2, 1, 3, side, side)
        modules = list(plain.modules().values())
        with saved_tensors(modules) as shared:
            fake = plain.generator(he)
        with saved_tensors(modules) as first:
            plain.discriminator_terms(fake, ihc)
        plain.discriminator.requires_grad_(False)
        with saved_tensors(modules) as second:
            plain.generator_terms(he, fake, ihc, PROGRESS, generator)
        return max(storage_bytes(shared + own) for own in (first, second))


def kept_by_fast(side: int) -> int:
    """The most bytes that the step of `train` keeps at once, in its own precision."""
    with FakeTensorMode():
        method, compute, generator = build_method(published()), resolve("cpu", Precision.AUTO), step_generator(0, 1)
        batch = channels_last(side)
        modules: list[nn.Module] = list(method.modules().values())
        with saved_tensors(modules) as shared, compute.autocast():
            decisions = decide(method, batch, PROGRESS, generator)
            outputs = method.generate(batch, decisions)
        most = 0
        for player in method.players:
            with frozen_except(method, player), saved_tensors(modules) as own, compute.autocast():
                method.terms(player, batch, outputs, decisions)
            most = max(most, storage_bytes(shared + own))
        return most


KEPT: dict[str, Callable[[int], int]] = {"plain": kept_by_plain, "fast": kept_by_fast}
"""Of compiled passes the compiler decides what is kept; their peak tells."""


def compare(sides: Sequence[int], rounds: int, ways: Sequence[str]) -> None:
    """Measure and print the table."""
    compute: Compute = resolve("cpu", Precision.AUTO)
    print(f"batch 1, fast in {compute.precision}, best of {rounds} rounds, {torch.get_num_threads()} threads\n")
    print("| side, px | way | s per step | plain / this | GiB kept | GiB peak |")
    print("|--:|---|--:|--:|--:|--:|")
    for side in sides:
        taken = clock(side, rounds, ways)
        for way, (seconds, peak) in taken.items():
            ratio = f"{taken['plain'].seconds / seconds:.2f}" if "plain" in taken else "-"
            kept = f"{KEPT[way](side) / 2**30:.2f}" if way in KEPT else "-"
            print(f"| {side} | {way} | {seconds:.2f} | {ratio} | {kept} | {peak / 2**30:.2f} |", flush=True)


def main() -> None:
    """All sides and ways, or the steps of one way alone."""
    parser = argparse.ArgumentParser(description="A step of ASP against the same written plainly.")
    parser.add_argument("--side", type=int, action="append", help="px; 256 and 512 unless given")
    parser.add_argument("--way", choices=list(WAYS), action="append", help="all unless given")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--serve", choices=list(WAYS), help="take a step of this way for every line of stdin")
    asked = parser.parse_args()
    sides = asked.side or list(SIDES)
    if asked.serve:
        serve(asked.serve, sides[0])
    else:
        compare(sides, asked.rounds, asked.way or list(WAYS))


if __name__ == "__main__":
    main()
