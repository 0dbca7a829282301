"""One training step of each method: operations and kept bytes, counted; and seconds, of passes shared and as published.

Counts are of 512 px at batch 1 in fp32 with published widths (`train/cost.py`). Times are of this device in its own
precision, both ways taking turns, each number the best of its rounds.
"""

from __future__ import annotations

import time

import torch

from tests.support.stepping import take_step
from train.data.batch import Batch
from train.describe import measure_step
from train.loop.step import make_optimisers, step_generator
from train.methods.base import Method
from train.methods.recipes import load_recipe
from train.methods.registry import METHODS, build_method
from train.runtime.device import Compute, resolve
from train.settings import Precision, TrainSettings

SIDE = {"cpu": 256, "cuda": 512}  # px, of the timed steps
ROUNDS = {"cpu": 3, "cuda": 20}
CONTRASTIVE = ("cut", "cut_paired", "fastcut", "asp", "attention_gan")


def settings(method: str, *, shared: bool) -> TrainSettings:
    """The published recipe of a method."""
    ways = [] if shared else ["contrast.share_passes=false"]
    return load_recipe([], [f"method={method}", *ways])


def count() -> None:
    """Operations and kept bytes, as published and as they are here."""
    print("| method | as published: TFLOP | GiB kept | here: TFLOP | GiB kept | operations | bytes |")
    print("|---|---|---|---|---|---|---|")
    for method in METHODS:
        here = measure_step(settings(method, shared=True), 512)
        before = measure_step(settings(method, shared=False), 512) if method in CONTRASTIVE else here
        numbers = [f"{cost.flops / 1e12:.3f} | {cost.saved_bytes / 2**30:.2f}" for cost in (before, here)]
        operations, kept = here.flops / before.flops, here.saved_bytes / before.saved_bytes
        print(f"| {method} | {numbers[0]} | {numbers[1]} | {operations:.0%} | {kept:.0%} |")


def seconds(compute: Compute, method: Method[object], run: TrainSettings, batch: Batch) -> float:
    """How long a step takes until the device is done."""
    optimisers = make_optimisers(method, run.optimiser, fused=compute.cuda)
    start = time.perf_counter()
    take_step(method, optimisers, compute, [batch], 0.5, [step_generator(0, 1)])
    if compute.cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def clock() -> None:
    """Seconds of a step, passes shared and as published, side by side."""
    compute = resolve("auto", Precision.AUTO)
    kind = compute.device.type
    side = SIDE[kind]
    he, ihc = torch.rand(2, 1, 3, side, side, device=compute.device).mul(2).sub(1)
    layout = torch.channels_last
    batch = Batch(he=he.contiguous(memory_format=layout), ihc=ihc.contiguous(memory_format=layout))
    print(f"\n{side} px, batch 1, {compute.precision} on {kind}, {torch.get_num_threads()} threads\n")
    print("| method | as published, s | here, s | ratio |\n|---|---|---|---|")
    for name in ("asp", "attention_gan"):
        ways = {shared: settings(name, shared=shared) for shared in (False, True)}
        methods = {shared: build_method(run) for shared, run in ways.items()}
        for method in methods.values():
            for module in method.modules().values():
                compute.place(module)
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(ROUNDS[kind] + 1):  # the first round warms up
            for shared, run in ways.items():
                best[shared] = min(best[shared], seconds(compute, methods[shared], run, batch))
        print(f"| {name} | {best[False]:.3f} | {best[True]:.3f} | {best[True] / best[False]:.2f} |")


if __name__ == "__main__":
    count()
    clock()
