"""What a run says that trains on the CPU though a GPU seems to be here: why, and how long that takes."""

from __future__ import annotations

import time

import torch

from train.data.batch import Batch
from train.loop.session import Run
from train.loop.step import trial_step
from train.methods.registry import build_method
from train.runtime.device import idle_gpu

MINUTE, HOUR, DAY = 60, 3600, 86400  # s


def warn_of_cpu(run: Run, done: int) -> None:
    """Say how long the steps after `done` take on the CPU, in a line of its own, where a GPU is left idle.

    Two steps are tried on networks of their own, which leaves no trace in the run; of several processes none tries.
    """
    if not (why := idle_gpu(run.settings.device)):
        return
    steps = run.order.steps - done
    takes = ""
    if run.ranks.count == 1:
        seconds = _seconds_of_step(run)
        takes = f", where its {steps:,} steps take about {rough(steps * seconds)} ({seconds:.2g} s a step)"
    run.console.say(f"warning: {why}. This run trains on the CPU{takes}; --set device=cpu says that it should")


def rough(seconds: float) -> str:
    """A duration in one unit.

    >>> rough(5), rough(600), rough(20_000), rough(1_300_000)
    ('5 s', '10 minutes', '6 hours', '15 days')
    """
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def _seconds_of_step(run: Run) -> float:
    """Seconds of the second of two steps; the first one also prepares."""
    order, side = run.order, run.store.manifest.view_side
    with torch.random.fork_rng(devices=[]):
        method = build_method(run.settings)
        for module in method.modules().values():
            run.compute.place(module)
        shape, layout = (order.batch, 3, side, side), torch.channels_last
        he, ihc = (torch.rand(shape).contiguous(memory_format=layout) for _ in range(2))
        for _ in range(2):
            began = time.monotonic()
            trial_step(method, run.compute, Batch(he=he, ihc=ihc))
        return order.accumulate * (time.monotonic() - began)
