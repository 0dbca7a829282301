"""What a run says that trains on the CPU though a GPU seems to be here: why, and how long that takes."""

from __future__ import annotations

import time
from typing import Any

import torch

from train.data.batch import Batch
from train.loop.session import Run
from train.loop.step import trial_step
from train.methods.base import Method
from train.methods.registry import build_method
from train.runtime.device import idle_gpu

MINUTE, HOUR, DAY = 60, 3600, 86400  # s
ROWS, LONG = 2, 10  # pairs that are tried, and s of a step whose preparation does not count


def warn_of_cpu(run: Run, done: int) -> None:
    """Say how long the steps after `done` take on the CPU, in a line of its own, where a GPU is left idle.

    A step or two are tried on networks of their own, which leaves no trace in the run; of several processes none tries.
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
    """Seconds of a step, of which at most two pairs are tried: the second time, unless the first was long enough."""
    order, side = run.order, run.store.manifest.view_side
    rows = min(order.batch, ROWS)
    with torch.random.fork_rng(devices=[]):
        method = build_method(run.settings)
        for module in method.modules().values():
            run.compute.place(module)
        he, ihc = (torch.rand(rows, 3, side, side).contiguous(memory_format=torch.channels_last) for _ in range(2))
        seconds = _time_step(run, method, Batch(he=he, ihc=ihc))
        if seconds < LONG:  # the first one also prepares
            seconds = _time_step(run, method, Batch(he=he, ihc=ihc))
    return seconds * order.accumulate * order.batch / rows


def _time_step(run: Run, method: Method[Any], batch: Batch) -> float:
    began = time.monotonic()
    trial_step(method, run.compute, batch)
    return time.monotonic() - began
