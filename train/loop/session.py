"""What a run works with, built before the first batch, and the records that it writes about itself."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from store.reader import Store
from store.records.facts import RunFacts, StartedFrom
from store.run_files import RunFolder
from store.schema import SettingsError
from train.data.batch import Batch
from train.data.sampling import ReadingOrder, plan_order
from train.kernels.launching import choose
from train.loop.captured import Captured, CudaRecorder, Uncaptured, wants_graph
from train.loop.ema import Ema
from train.loop.freezing import freeze
from train.loop.starting import start_from
from train.loop.step import OptimisationStep, make_optimisers, trial_step
from train.methods.base import Method
from train.methods.outline import build_outline, names_without_pairs
from train.methods.registry import build_method, check_multiple
from train.networks.compiling import compile_passes
from train.run.console import Console
from train.run.folder import recorded_fused, recorded_threads, settings_digest, software
from train.run.generator_file import FORMAT, GeneratorHeader
from train.runtime.device import Compute, resolve
from train.runtime.distributed import Ranks
from train.runtime.threads import describe_busy_cores, settle_threads
from train.settings import SMALLEST_DEPTH, Network, TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run in one of its processes."""

    folder: RunFolder
    store: Store
    settings: TrainSettings
    order: ReadingOrder
    compute: Compute
    ranks: Ranks
    console: Console
    method: Method[Any]
    optimisers: dict[str, Optimizer]
    emas: tuple[Ema, ...]
    """One, of the generator, if the setting `ema` is above 0; else none."""
    started_from: StartedFrom | None
    """The file that its first weights came from, if they are not fresh."""
    frozen: dict[str, int]
    """How many parameters of each network stay as they started, where some do."""
    graph: bool
    """Whether steps are replayed as CUDA graphs."""

    @property
    def result(self) -> nn.Module:
        """The network for samples, validation and the saved generator: the generator, or its EMA."""
        return self.emas[0].network if self.emas else self.method.generator

    @property
    def state(self) -> dict[str, nn.Module]:
        """Everything that checkpoints hold besides optimisers and position; the EMA is `average0` there."""
        return self.method.modules() | {f"average{n}": ema.network for n, ema in enumerate(self.emas)}


def build(folder: RunFolder, store: Store, settings: TrainSettings, ranks: Ranks, console: Console) -> Run:
    """Everything that a run needs. Raises SettingsError for what the store or the machine does not have."""
    compute = resolve(settings.device, settings.precision, ranks)
    graph = wants_graph(settings.graph, compute, ranks)
    compute.configure(deterministic=settings.deterministic)
    fused, note = choose(settings.fused, recorded_fused(folder), compute.device)
    if note:
        console.say(note)
    threads = settle_threads(settings.threads, recorded_threads(folder))
    torch.set_num_threads(threads)
    watched = console.active and compute.device.type == "cpu" and not settings.threads
    if watched and (busy := describe_busy_cores(threads)):
        console.say(busy)
    epochs = settings.optimiser.epochs
    if not store.manifest.paired:
        _refuse_pairs(store, settings)
    order = plan_order(store, settings.data, seed=settings.seed, epochs=epochs, processes=ranks.count)
    torch.manual_seed(settings.seed)  # layers take no generator; the process belongs to the run
    method = build_method(settings)
    check_multiple(store.manifest.view_side, method.multiple, f"the views of {store.address}")
    method.check_side(store.manifest.view_side)
    started_from = start_from(folder, settings, method.modules(), ranks)
    for module in method.modules().values():
        compute.place(module)
    frozen = freeze(method, settings.freeze, settings.generator.at_test)
    return Run(
        folder=folder,
        store=store,
        settings=replace(settings, precision=compute.precision, fused=fused, threads=threads),
        order=order,
        compute=compute,
        ranks=ranks,
        console=console,
        method=method,
        optimisers=make_optimisers(method, settings.optimiser, fused=True),
        emas=(Ema(method.generator, settings.ema),) if settings.ema else (),
        started_from=started_from,
        frozen=frozen,
        graph=graph,
    )


def _refuse_pairs(store: Store, settings: TrainSettings) -> None:
    """Raise SettingsError, which names an unpaired store, for settings that use pairs."""
    needed = build_outline(replace(settings, data=replace(settings.data, paired=True))).needs_pairs
    if needed:
        asked = f"method = {settings.method} compares a translation with the IHC of the same place"
        remedy = f"use a method that does not: {', '.join(names_without_pairs())}"
    elif settings.data.paired:
        asked, remedy = f"method = {settings.method} with data.paired = true reads pairs", "set data.paired=false"
    else:
        return
    raise SettingsError(f"{store.address} is unpaired: its H&E and IHC are of different places, and {asked}; {remedy}")


def make_step(run: Run) -> Captured | Uncaptured:
    """What takes the steps of a run. Make it when a checkpoint is loaded."""
    clip = run.settings.optimiser.clip
    step = OptimisationStep(run.method, run.optimisers, run.compute, clip=clip, emas=run.emas)
    return Captured(step, CudaRecorder(run.compute.device), run.console.say) if run.graph else Uncaptured(step)


def adapt_to_store(settings: TrainSettings, store: Store) -> TrainSettings:
    """The settings with the depth of a U-Net lowered, if need be, so that it can halve the store's views and tiles.

    Where even the smallest U-Net is too deep for them, the settings stay as they are, and `build` refuses them.
    """
    side = math.gcd(store.manifest.view_side, store.manifest.tile_side)
    halvings = (side & -side).bit_length() - 1
    generator = settings.generator
    if generator.network is not Network.UNET or not SMALLEST_DEPTH <= halvings < generator.depth:
        return settings
    return replace(settings, generator=replace(generator, depth=halvings))


def compile_run(run: Run) -> None:
    """Compile the networks' passes, or say why they run without compiling."""
    side, batch = run.store.manifest.view_side, run.settings.data.batch
    device, layout = run.compute.device, torch.channels_last
    he, ihc = (torch.rand(batch, 3, side, side, device=device).contiguous(memory_format=layout) for _ in range(2))
    run.console.say("compiling the networks: a minute or two at every start")
    start = time.monotonic()
    modules = run.method.modules()
    reason = compile_passes(modules, lambda: trial_step(run.method, run.compute, Batch(he=he, ihc=ihc)))
    if reason:
        run.console.say(f"warning: the networks run without torch.compile, which failed here ({reason})")
    else:
        run.console.say(f"compiled in {time.monotonic() - start:.0f} s")


def facts_of(run: Run) -> RunFacts:
    """The content of `run.json`."""
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
        settings=settings_digest(run.settings),
        started_from=run.started_from,
        frozen=run.frozen,
    )


def header_of(run: Run) -> GeneratorHeader:
    """The header of the generator's file."""
    manifest = run.store.manifest
    return GeneratorHeader(
        version=FORMAT,
        method=run.settings.method,
        settings=run.settings,
        seal=manifest.seal,
        step=run.order.steps,
        pairs_seen=run.order.steps * run.order.effective_batch,
        view_side=manifest.view_side,
        mpp={view: manifest.mpp[view] for view in run.settings.data.views if view in manifest.mpp},
        started_from=run.started_from.sha256 if run.started_from else None,
    )
