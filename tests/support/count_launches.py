"""`python -m tests.support.count_launches asp`: what a step of this method launches, counted without a GPU.

A kernel of Triton is counted where it would be launched, an operation of PyTorch where it would compute: about one
kernel each. Numbers are garbage: nothing of Triton is computed. Prints a JSON object: names and counts.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.jit import JITFunction

from tests.support.compile_kernels import specialise
from train.data.batch import Batch
from train.kernels import launching
from train.loop.step import OptimisationStep, make_optimisers
from train.methods.registry import build_method
from train.runtime.device import Compute
from train.settings import DiscriminatorSettings, GeneratorSettings, Precision, TrainSettings

MOST_PROGRAMS = (2**31 - 1, 2**16 - 1, 2**16 - 1)  # along each axis of a launch, on every card
SIDE = 96  # px, the least that a discriminator of five layers takes
FREE = (  # starts of operations that launch nothing
    *("_local_scalar", "alias", "as_strided", "detach", "empty", "expand", "lift", "narrow", "new_empty", "permute"),
    *("profiler", "select", "set_", "slice", "split", "squeeze", "t.", "transpose", "unbind", "unsqueeze", "view"),
)


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """Counts operations that compute, by name; or, with `where`, by the lines of ours that asked for one of them."""

    def __init__(self, where: str = "") -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self.counts, self.where, self.places = Counter[str](), where, Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        if not name.startswith(FREE) or "backward" in name:
            self.counts[name] += 1
            if self.where and name.startswith(self.where):
                lines = [
                    f for f in traceback.extract_stack() if "/train/" in f.filename and "/tests/" not in f.filename
                ]
                place = " < ".join(f"{f.filename.rpartition('/train/')[2]}:{f.lineno}" for f in lines[:-4:-1])
                self.places[f"{name} {place} {[tuple(a.shape) for a in args if isinstance(a, Tensor)]}"] += 1
        return func(*args, **(kwargs or {}))


def count(method: str, where: str = "") -> Counting:
    """Counts of the second step of this method, bf16, published depth and narrow layers."""
    settings = TrainSettings(
        method=method, generator=GeneratorSettings(base=8), discriminator=DiscriminatorSettings(base=8)
    )
    if method in ("pix2pix", "pyramid_p2p"):
        settings = replace(settings, generator=replace(settings.generator, depth=5))
    compute = Compute(device=torch.device("cpu"), precision=Precision.BF16)
    made = build_method(settings)
    for module in made.modules().values():
        compute.place(module)
    step = OptimisationStep(made, make_optimisers(made, settings.optimiser, fused=True), compute)
    he, ihc = (torch.rand(1, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last) for _ in range(2))
    counting = Counting(where)

    variants: list[set[str]] = []

    def run(self: Any, *arguments: object, grid: Any, warmup: bool, **named: Any) -> None:
        name = f"triton {self.fn.__module__.rpartition('.')[2]}.{self.fn.__name__}"
        counting.counts[name] += 1
        variants[-1].add(f"{name} {specialise(self, arguments, named)}")
        assert all(0 < programs <= most for programs, most in zip(grid, MOST_PROGRAMS, strict=False)), (name, grid)

    JITFunction.run = run
    launching._switch.interpreted = True  # CPU tensors are taken; nothing is interpreted here
    for _ in range(2):
        variants.append(set())
        decisions = made.decide(1, SIDE, 0.5, torch.Generator().manual_seed(0))
        counting.counts.clear()
        counting.places.clear()
        with counting:
            step([Batch(he=he, ihc=ihc)], [decisions])
    assert variants[1] <= variants[0], sorted(variants[1] - variants[0])  # a capture may not compile nor load a kernel
    return counting


if __name__ == "__main__":
    found = count(*sys.argv[1:])
    sys.stdout.write(json.dumps(dict((found.places if len(sys.argv) > 2 else found.counts).most_common()), indent=1))
