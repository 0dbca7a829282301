"""What a run works with, all of it built before the first batch, and what it says of itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from store.reader import Store
from store.run_files import RunFacts, RunFolder
from store.schema import Split
from store.settings import to_toml
from train.data.batch import Batch
from train.data.sampling import Order, plan_order
from train.loop.ema import MovingAverage
from train.loop.step import make_optimisers, rehearse_step
from train.methods.base import Method
from train.methods.registry import build_method, check_multiple
from train.networks.compiling import compile_passes
from train.run.checkpoint import FORMAT, GeneratorHeader
from train.run.folder import software
from train.run.reporting import Teller
from train.runtime.device import Compute, resolve
from train.runtime.distributed import Ranks
from train.settings import Norm, TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run in one of its processes."""

    folder: RunFolder
    store: Store
    settings: TrainSettings
    order: Order
    compute: Compute
    ranks: Ranks
    teller: Teller
    method: Method[Any]
    optimisers: dict[str, Optimizer]
    averages: tuple[MovingAverage, ...]
    """Of the generator, if `ema` is on."""

    @property
    def result(self) -> nn.Module:
        """The network that is shown, validated and kept: the generator, or its average."""
        return self.averages[0].network if self.averages else self.method.modules()["generator"]

    @property
    def state(self) -> dict[str, nn.Module]:
        """Everything a checkpoint holds besides optimisers and position."""
        averages = {f"average{n}": average.network for n, average in enumerate(self.averages)}
        return self.method.modules() | averages


def build(folder: RunFolder, store: Store, settings: TrainSettings, ranks: Ranks, teller: Teller) -> Run:
    """Everything a run needs; what the store or the machine cannot give is refused here."""
    compute = resolve(settings.device, settings.precision, ranks)
    compute.settle(deterministic=settings.deterministic)
    epochs = settings.optimiser.epochs
    order = plan_order(store, settings.data, seed=settings.seed, epochs=epochs, processes=ranks.count)
    torch.manual_seed(settings.seed)  # layers take no generator; the process is the run's
    method = build_method(settings)
    check_multiple(store.manifest.view_side, method.multiple, f"the views of {store.address}")
    method.check_side(store.manifest.view_side)
    for module in method.modules().values():
        compute.place(module)
    return Run(
        folder=folder,
        store=store,
        settings=replace(settings, precision=compute.precision),
        order=order,
        compute=compute,
        ranks=ranks,
        teller=teller,
        method=method,
        optimisers=make_optimisers(method, settings.optimiser, fused=True),
        averages=(MovingAverage(method.modules()["generator"], settings.ema),) if settings.ema else (),
    )


def compile_run(run: Run) -> None:
    """Compile the networks' passes, or say why they run as they are written."""
    side, batch = run.store.manifest.view_side, run.settings.data.batch
    device, layout = run.compute.device, torch.channels_last
    he, ihc = (torch.rand(batch, 3, side, side, device=device).contiguous(memory_format=layout) for _ in range(2))
    run.teller.say("compiling the networks: a minute or two, once at every start")
    start = time.monotonic()
    modules = run.method.modules()
    reason = compile_passes(modules, lambda: rehearse_step(run.method, run.compute, Batch(he=he, ihc=ihc)))
    if reason:
        run.teller.say(f"warning: the networks run without torch.compile, which failed here ({reason})")
    else:
        run.teller.say(f"compiled in {time.monotonic() - start:.0f} s")


def facts_of(run: Run) -> RunFacts:
    """What `run.json` says."""
    manifest = run.store.manifest
    return RunFacts(
        store=run.store.address,
        seal=manifest.seal,
        method=run.settings.method,
        synthetic=manifest.synthetic,
        upscaler=manifest.upscaler.name,
        pairs=run.order.pairs,
        pairs_seen=run.order.steps * run.order.effective_batch,
        device=str(run.compute.device),
        precision=run.compute.precision,
        parameters={name: sum(p.numel() for p in module.parameters()) for name, module in run.method.modules().items()},
        software=software(),
        processes=run.ranks.count,
        effective_batch=run.order.effective_batch,
    )


def header_of(run: Run) -> GeneratorHeader:
    """What the generator's file says of itself."""
    return GeneratorHeader(
        version=FORMAT,
        method=run.settings.method,
        settings=run.settings,
        seal=run.store.manifest.seal,
        step=run.order.steps,
        pairs_seen=run.order.steps * run.order.effective_batch,
    )


def announce(run: Run, facts: RunFacts) -> str:
    """What the run will do."""
    order, side = run.order, run.store.manifest.view_side
    views = [f"{choice.view} ({choice.share:.0%})" for choice in order.views]
    parameters = ", ".join(f"{name} {count:,}" for name, count in facts.parameters.items())
    terms = ", ".join(f"{weight:g} x {name}" for name, weight in run.method.weights.items())
    return "\n".join(
        [
            to_toml(run.settings),
            f"{facts.method} on {facts.store}{' (synthetic)' if facts.synthetic else ''}: {order.pairs} train pairs, "
            f"views {', '.join(views)} at {side} px, views enlarged by {facts.upscaler}"
            f"{'' if order.paired else '; not paired: each H&E goes with the IHC of any pair'}",
            f"the generator's terms: {terms}",
            f"{order.epochs} epochs x {order.steps_per_epoch} steps of batch {_batch(order)} = {order.steps} steps on "
            f"{facts.device} in {facts.precision}",
            f"parameters: {parameters}",
            *_notes(run),
            f"run folder: {run.folder.path}",
        ]
    )


def _batch(order: Order) -> str:
    if order.parts == 1:
        return str(order.batch)
    factors = f"{order.batch} each of {order.processes} processes x {order.accumulate} accumulated"
    return f"{order.effective_batch} ({factors}; the learning rate is not changed by it)"


def _notes(run: Run) -> list[str]:
    settings, order = run.settings, run.order
    notes = []
    if not run.store.manifest.counts.get(Split.VAL, 0):
        notes.append("no val pairs: nothing is validated, and samples show other ones")
    if order.parts > 1 and Norm.BATCH in (settings.generator.norm, settings.discriminator.norm):
        notes.append(
            f"batch norm sees {order.batch} pictures at a time, not {order.effective_batch}: it is not the same"
        )
    if settings.ema:
        notes.append(f"shown and kept is the generator's moving average, {settings.ema:g} of itself each step")
    return notes
