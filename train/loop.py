"""The training loop: steps, reports, checkpoints, signals. Run again, it goes on where it stopped."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm

from store.files import locked
from store.images import write_png
from store.reader import Store
from store.schema import Interrupted, Split
from store.settings import to_toml
from store.signals import stop_requests
from train.checkpoint import FORMAT, GeneratorHeader, Position, restore_newest, save_checkpoint, save_generator
from train.data import Reading, read_batches, to_batch
from train.device import Compute, resolve
from train.folder import LOCK, RunFacts, RunFolder, claim, make_folder, software
from train.methods import Method, build_method, check_multiple
from train.order import Order, plan_order
from train.players import make_optimisers, set_learning_rate, step_generator, take_step
from train.settings import TrainSettings
from train.watch import (
    EVERY,
    Sample,
    Window,
    append_metrics,
    check_finite,
    choose_samples,
    cut_metrics,
    draw_samples,
    say,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run works with; everything is built before the first batch."""

    folder: RunFolder
    store: Store
    settings: TrainSettings
    order: Order
    compute: Compute
    method: Method[Any]
    optimisers: dict[str, Optimizer]


def fit(folder: RunFolder, store: Store, settings: TrainSettings) -> None:
    """Train a run to its end, from its last checkpoint if there is one. Raises Interrupted when a signal stopped it."""
    run = _build(folder, store, settings)
    facts = _facts(run)
    make_folder(folder)
    with locked(folder.path / LOCK, f"the run {folder.path}"):
        claim(folder, run.settings, facts)
        if folder.generator.exists():
            say(f"{folder.path} is finished ({run.order.steps} steps): its generator is {folder.generator}")
            return
        say(_announce(run, facts))
        position, warnings = restore_newest(folder, run.method, run.optimisers)
        for warning in warnings:
            say(f"warning: {warning}")
        say(f"going on after step {position.step}" if position.step else "starting at the first step")
        _train(run, position)
        save_generator(folder.generator, run.method.modules()["generator"], _header(run))
    say(f"finished: the generator is {folder.generator}, contact sheets are in {folder.samples}")


def _train(run: Run, position: Position) -> None:
    """All steps after `position`, and a checkpoint of the last one."""
    settings, order, done = run.settings, run.order, position.step
    cut_metrics(run.folder.metrics, done)
    samples = choose_samples(run.store, settings.data.views)
    started, window = time.monotonic(), Window(seen=position.terms)
    limit = settings.time_limit * 60 or math.inf
    readings = closing(read_batches(run.store, order, done=done, workers=settings.data.workers, pin=run.compute.cuda))
    progress_bar = tqdm(total=order.steps, initial=done, desc=settings.method, unit="step", file=sys.stderr)
    with stop_requests(say) as stop, readings as stream, progress_bar as bar:
        for step, reading in enumerate(stream, start=done + 1):
            rate = set_learning_rate(run.optimisers, settings.optimiser, order.epoch(step))
            window.add(step, _step(run, reading, step))
            bar.update()
            here, last = time.monotonic() - started, step == order.steps
            stopping, seconds = stop.requested or here >= limit, position.seconds + here
            if last or step % EVERY == 0:
                means = window.means()
                line = {"step": step, "epoch": order.epoch(step), "seconds": round(seconds, 3), "learning_rate": rate}
                append_metrics(run.folder.metrics, line | means)
                bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)
            if last or stopping or step % settings.checkpoint_every == 0:
                terms = window.look()
                check_finite(run.method.modules(), step)
                reached = Position(step=step, seconds=seconds, terms=terms)
                save_checkpoint(run.folder, run.method, run.optimisers, reached)
            if last or step % settings.sample_every == 0:
                write_png(run.folder.samples / f"{step:06d}.png", _draw(run, samples, step))
            if stopping and not last:
                raise Interrupted(f"{run.folder.path} is saved after step {step} of {order.steps}; run the same again")


def _step(run: Run, reading: Reading, step: int) -> dict[str, Tensor]:
    """Step `step`, counted from 1, on what was read for it. Returns its terms, still on the device."""
    progress = (run.order.epoch(step) - 1) / run.order.epochs
    batch = to_batch(reading, run.compute.device)
    generator = step_generator(run.settings.seed, step)
    return take_step(run.method, run.optimisers, run.compute, batch, progress, generator)


def _draw(run: Run, samples: Sequence[Sample], step: int) -> NDArray[np.uint8]:
    title = f"{run.settings.method}, step {step} of {run.order.steps}"
    generator, how = run.method.modules()["generator"], run.settings.generator.at_test
    return draw_samples(run.store, samples, generator, run.compute, how=how, title=title)


def _build(folder: RunFolder, store: Store, settings: TrainSettings) -> Run:
    """Everything a run needs; what the store or the machine cannot give is refused here."""
    compute = resolve(settings.device, settings.precision)
    order = plan_order(store, settings.data, seed=settings.seed, epochs=settings.optimiser.epochs)
    torch.manual_seed(settings.seed)  # layers take no generator: the process is the run's, and its state is saved
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
        method=method,
        optimisers=make_optimisers(method, settings.optimiser, fused=compute.cuda),
    )


def _facts(run: Run) -> RunFacts:
    manifest = run.store.manifest
    return RunFacts(
        store=run.store.address,
        seal=manifest.seal,
        method=run.settings.method,
        synthetic=manifest.synthetic,
        upscaler=manifest.upscaler.name,
        pairs=run.order.pairs,
        draws=run.order.steps * run.order.batch,
        device=str(run.compute.device),
        precision=run.compute.precision,
        parameters={name: sum(p.numel() for p in module.parameters()) for name, module in run.method.modules().items()},
        software=software(),
    )


def _header(run: Run) -> GeneratorHeader:
    return GeneratorHeader(
        version=FORMAT,
        method=run.settings.method,
        settings=run.settings,
        seal=run.store.manifest.seal,
        step=run.order.steps,
        draws=run.order.steps * run.order.batch,
    )


def _announce(run: Run, facts: RunFacts) -> str:
    """What the run will do."""
    order, side = run.order, run.store.manifest.view_side
    views = [f"{choice.view} ({choice.share:.0%})" for choice in order.views]
    validation = "" if run.store.manifest.counts.get(Split.VAL, 0) else "no val pairs: samples show other ones\n"
    parameters = ", ".join(f"{name} {count:,}" for name, count in facts.parameters.items())
    return (
        f"{to_toml(run.settings)}\n"
        f"{facts.method} on {facts.store}{' (synthetic)' if facts.synthetic else ''}: {order.pairs} train pairs, "
        f"views {', '.join(views)} at {side} px, views enlarged by {facts.upscaler}"
        f"{'' if run.order.paired else '; not paired: each H&E goes with the IHC of any pair'}\n"
        f"the generator's terms: {', '.join(f'{weight:g} x {name}' for name, weight in run.method.weights.items())}\n"
        f"{order.epochs} epochs x {order.steps_per_epoch} steps of batch {order.batch} = {order.steps} steps on "
        f"{facts.device} in {facts.precision}\n"
        f"parameters: {parameters}\n"
        f"{validation}"
        f"run folder: {run.folder.path}"
    )
