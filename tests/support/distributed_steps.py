"""A step as one of several processes takes it: `torchrun -m tests.support.distributed_steps OUT METHOD…` writes it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from store.run_files import RunFolder
from tests.support.stepping import take_step
from tests.support.tiny_run import CPU, NARROW, NARROW_CONTRAST, read_by
from train.data.batch import Batch
from train.loop.starting import start_from
from train.loop.step import make_optimisers, step_generator
from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.networks.spectral_norm import SpectralConv2d
from train.run.generator_file import FORMAT, GeneratorHeader, save_generator
from train.runtime.distributed import Ranks, join, mean_of_all
from train.settings import TrainSettings

Recorded = dict[str, np.ndarray[Any, Any]]

SMALL = (*NARROW, *NARROW_CONTRAST, "generator.depth=5", "generator.blocks=5", "generator.dropout=false")


def small(method: str, *overrides: str) -> TrainSettings:
    """A published recipe with narrow networks."""
    return load_recipe([], [f"method={method}", *read_by(method, SMALL), *overrides])


def draw_pairs(count: int, seed: int = 1) -> Batch:
    """The pictures of a step, 96 px."""
    coarse = torch.rand(2, count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    he, ihc = (torch.nn.functional.interpolate(c, size=96, mode="bicubic").mul(2).sub(1).clamp(-1, 1) for c in coarse)
    return Batch(he=he, ihc=ihc)


def rows(batch: Batch, which: slice) -> Batch:
    """Some pictures of a batch."""
    return Batch(he=batch.he[which], ihc=batch.ihc[which])


def take(method: str, batches: Sequence[Batch], dtype: torch.dtype, progress: float, frozen: bool) -> Recorded:
    """The terms of a step, and the gradients with which each network was moved. All batches draw the same positions.

    Frozen, spectral norm makes no power iteration; else each pass makes one, also that of a second batch.
    """
    torch.manual_seed(0)
    settings = small(method)
    built = build_method(settings)
    for module in built.modules().values():
        module.to(dtype)
        for layer in module.modules():
            layer.training = not (frozen and isinstance(layer, SpectralConv2d))
    optimisers = make_optimisers(built, settings.optimiser, fused=False)
    generators = [step_generator(0, 1) for _ in batches]
    cast = [Batch(he=batch.he.to(dtype), ihc=batch.ihc.to(dtype)) for batch in batches]
    terms = take_step(built, optimisers, CPU, cast, progress, generators)
    recorded = {name: mean_of_all(term).numpy() for name, term in terms.items()}
    for name, module in built.modules().items():
        recorded |= {f"{name}/{key}": p.grad.numpy() for key, p in module.named_parameters() if p.grad is not None}
    return recorded


def check_that_one_process_stops_both(method: str, first: bool) -> None:
    """A term that is infinite in one process, with finite gradients, and a picture that is NaN in one: nobody moves."""
    torch.manual_seed(0)
    built, settings = build_method(small(method)), small(method)
    optimisers = make_optimisers(built, settings.optimiser, fused=True)
    batch, factor = draw_pairs(1), 1.0 if first else math.nan
    broken = Batch(he=batch.he * factor, ihc=batch.ihc)

    def tensors() -> list[torch.Tensor]:
        held = [value for module in built.modules().values() for value in module.state_dict().values()]
        pictures = [picture for value in held if isinstance(value, list) for picture in value]
        moments = [value for optimiser in optimisers.values() for s in optimiser.state.values() for value in s.values()]
        return [value.clone() for value in (*held, *pictures, *moments) if isinstance(value, torch.Tensor)]

    def with_infinite_term(*arguments: Any) -> dict[str, torch.Tensor]:
        made = terms(*arguments)
        return made if first else {name: term + math.inf for name, term in made.items()}

    take_step(built, optimisers, CPU, [batch], 0.5, [step_generator(0, 1)])
    before, terms = tensors(), built.terms
    take_step(built, optimisers, CPU, [broken], 0.5, [step_generator(0, 2)])
    built.terms = with_infinite_term  # type: ignore[method-assign,assignment]  # for one step
    take_step(built, optimisers, CPU, [batch], 0.5, [step_generator(0, 3)])
    assert all(torch.equal(one, two) for one, two in zip(tensors(), before, strict=True)), method


def check_that_both_start_from_the_file_of_the_first(out: Path, ranks: Ranks) -> None:
    """The other process has no such file, and fresh weights of another seed."""
    settings, file = small("asp"), out / "start.safetensors"
    torch.manual_seed(7)
    expected = build_method(settings).generator
    if ranks.first:
        header = GeneratorHeader(version=FORMAT, method="asp", settings=settings, seal=None, step=1, pairs_seen=1)
        save_generator(file, expected, header)
    torch.manual_seed(ranks.rank)
    built = build_method(settings)
    own = replace(settings, init_from=str(file if ranks.first else out / "nowhere.safetensors"))
    started = start_from(RunFolder(out / "run"), own, built.modules(), ranks)
    assert started is not None
    assert (started.file, started.fresh) == ("start.safetensors", ("discriminator", "heads"))
    found = built.generator.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.state_dict().items())


PRECISIONS = {"double": (torch.float64, 0.9, False), "single": (torch.float32, 0.0, True)}


def main(out: Path, methods: Sequence[str]) -> None:
    """Each method's step on this process's share of as many pictures as there are processes."""
    torch.set_num_threads(1)
    with join() as ranks:
        pairs = draw_pairs(ranks.count)
        for method in methods:
            for precision, how in PRECISIONS.items():
                recorded = take(method, [rows(pairs, slice(ranks.rank, ranks.rank + 1))], *how)
                if ranks.first:
                    np.savez(out / f"{method}-{precision}.npz", allow_pickle=False, **recorded)
        for method in ("pix2pix", "cyclegan"):
            check_that_one_process_stops_both(method, ranks.first)
        check_that_both_start_from_the_file_of_the_first(out, ranks)
    left = [name for name in map(Path.read_text, Path("/proc/self/task").glob("*/comm")) if "gloo" in name]
    assert not left, f"threads that may abort the process at its end: {left}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
