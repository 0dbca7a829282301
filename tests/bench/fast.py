"""A step of ASP as `train` takes it against the same step written plainly (`tests/bench/plain.py`): time and memory.

Published widths, batch 1. The plain way is contiguous float32; the fast way is what `train` resolves `auto` to here.
Both take turns in one process and each number is the best of its rounds. Kept bytes are those of `train/cost.py`, in
the precision of each way; peak memory is what a step adds to a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.bench.plain import PlainAsp
from train.choices import Precision
from train.cost import keeping, kept_bytes
from train.data import Batch
from train.device import Compute, resolve
from train.methods import build_method
from train.players import frozen_except, make_optimisers, step_generator, take_step
from train.recipe import load_recipe
from train.settings import TrainSettings

SIDES = (256, 512)  # px
ROUNDS = 3
STEPS = 2  # of a process whose peak is measured: the second one finds Adam's moments
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


def make_fast(side: int, *, compile: bool = False) -> Step:
    """The way of `train`, as `train.loop` builds it; the place for the compiled one."""
    if compile:
        raise NotImplementedError("train has no compiled step")
    settings, compute, batch = published(), resolve("cpu", Precision.AUTO), channels_last(side)
    method = build_method(settings)
    for module in method.modules().values():
        compute.place(module)
    optimisers = make_optimisers(method, settings.optimiser, fused=compute.cuda)
    return lambda number: take_step(method, optimisers, compute, batch, PROGRESS, step_generator(0, number))


WAYS: dict[str, Callable[[int], Step]] = {"plain": make_plain, "fast": make_fast}


def clock(side: int, rounds: int) -> dict[str, float]:
    """Seconds of a step of each way, the best of its rounds; one more round warms up."""
    steps = {name: make(side) for name, make in WAYS.items()}
    best = dict.fromkeys(WAYS, float("inf"))
    for number in range(1, rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step(number)
            if number > 1:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def kept_by_plain(side: int) -> int:
    """The most bytes that the plain step keeps at once."""
    with FakeTensorMode():
        plain, generator = PlainAsp(published()), step_generator(0, 1)
        he, ihc = torch.empty(2, 1, 3, side, side)
        modules = list(plain.modules().values())
        with keeping(modules) as shared:
            fake = plain.generator(he)
        with keeping(modules) as first:
            plain.discriminator_terms(fake, ihc)
        plain.discriminator.requires_grad_(False)
        with keeping(modules) as second:
            plain.generator_terms(he, fake, ihc, PROGRESS, generator)
        return max(kept_bytes(shared + own) for own in (first, second))


def kept_by_fast(side: int) -> int:
    """The most bytes that the step of `train` keeps at once, in its own precision."""
    with FakeTensorMode():
        method, compute, generator = build_method(published()), resolve("cpu", Precision.AUTO), step_generator(0, 1)
        batch = channels_last(side)
        modules: list[nn.Module] = list(method.modules().values())
        with keeping(modules) as shared, compute.autocast():
            outputs = method.generate(batch, generator)
        most = 0
        for player in method.players:
            with frozen_except(method, player), keeping(modules) as own, compute.autocast():
                method.terms(player, batch, outputs, PROGRESS, generator)
            most = max(most, kept_bytes(shared + own))
        return most


KEPT: dict[str, Callable[[int], int]] = {"plain": kept_by_plain, "fast": kept_by_fast}


def peak(way: str, side: int) -> int:
    """Bytes by which steps raise the peak memory of this process."""
    step = WAYS[way](side)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(1, STEPS + 1):
        step(number)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def peak_elsewhere(way: str, side: int) -> int:
    """The same in a process of its own. A process begins with the peak of its parent, which must be small by then."""
    words = [sys.executable, "-m", "tests.bench.fast", "--peak", way, "--side", str(side)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def compare(sides: Sequence[int], rounds: int) -> None:
    """Measure and print the table: memory first, while this process is small."""
    compute: Compute = resolve("cpu", Precision.AUTO)
    peaks = {(side, way): peak_elsewhere(way, side) for side in sides for way in WAYS}
    print(f"batch 1, fast in {compute.precision}, best of {rounds} rounds, {torch.get_num_threads()} threads\n")
    print("| side, px | plain, s | fast, s | ratio | plain, GiB kept | fast | plain, GiB peak | fast |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for side in sides:
        seconds = clock(side, rounds)
        kept = " | ".join(f"{count(side) / 2**30:.2f}" for count in KEPT.values())
        most = " | ".join(f"{peaks[side, way] / 2**30:.2f}" for way in WAYS)
        times = " | ".join(f"{value:.2f}" for value in seconds.values())
        print(f"| {side} | {times} | {seconds['plain'] / seconds['fast']:.2f} | {kept} | {most} |", flush=True)


def main() -> None:
    """All sides, or the peak of one way alone."""
    parser = argparse.ArgumentParser(description="A step of ASP against the same written plainly.")
    parser.add_argument("--side", type=int, action="append", help="px; 256 and 512 unless given")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peak", choices=list(WAYS), help="print bytes of this way's steps alone")
    asked = parser.parse_args()
    sides = asked.side or list(SIDES)
    if asked.peak:
        print(peak(asked.peak, sides[0]))
    else:
        compare(sides, asked.rounds)


if __name__ == "__main__":
    main()
