"""The training loop: players in the method's order, reports, checkpoints, signals. Run again, it goes on where it stopped."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from tqdm import tqdm

from store.files import locked
from store.images import write_png
from store.reader import Store
from store.schema import Interrupted
from store.settings import to_toml
from train.checkpoint import FORMAT, GeneratorHeader, Position, restore_newest, save_checkpoint, save_generator
from train.data import Batch, Order, plan_order, read_batches, to_batch
from train.device import Compute, resolve
from train.folder import LOCK, RunFacts, RunFolder, claim, make_folder, software
from train.losses import learning_rate_factor
from train.methods import Method, build_method, check_multiple
from train.settings import OptimiserSettings, TrainSettings
from train.watch import EVERY, Window, append_metrics, choose_samples, cut_metrics, draw_samples, say


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
    settings, order, step = run.settings, run.order, position.step
    cut_metrics(run.folder.metrics, step)
    samples = choose_samples(run.store, settings.data.views)
    workers, began, window = settings.data.workers, time.monotonic() - position.seconds, Window()
    readings = closing(read_batches(run.store, order, done=step, workers=workers, pin=run.compute.cuda))
    progress_bar = tqdm(total=order.steps, initial=step, desc=settings.method, unit="step", file=sys.stderr)
    with stop_requests() as stop, readings as stream, progress_bar as bar:
        for step, reading in enumerate(stream, start=step + 1):
            epoch = order.epoch(step)
            rate = set_learning_rate(run.optimisers, settings.optimiser, epoch)
            batch = to_batch(reading, run.compute.device)
            window.add(step, take_step(run, batch, (epoch - 1) / order.epochs, step_generator(settings.seed, step)))
            bar.update()
            saving = stop.requested or step == order.steps or step % settings.checkpoint_every == 0
            if saving or step % EVERY == 0:
                means, seconds = window.means(), time.monotonic() - began
                line = {"step": step, "epoch": epoch, "seconds": round(seconds, 3), "learning_rate": rate, **means}
                append_metrics(run.folder.metrics, line)
                bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)
                if saving:
                    save_checkpoint(run.folder, run.method, run.optimisers, Position(step=step, seconds=seconds))
            if step == order.steps or step % settings.sample_every == 0:
                title = f"{settings.method}, step {step} of {order.steps}"
                generator = run.method.modules()["generator"]
                sheet = draw_samples(run.store, samples, generator, run.compute, title=title)
                write_png(run.folder.samples / f"{step:06d}.png", sheet)
            if stop.requested and step < order.steps:
                raise Interrupted(f"{run.folder.path} is saved after step {step} of {order.steps}; run me again")


def take_step(run: Run, batch: Batch, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
    """One move of every player; returns all terms, detached and still on the device."""
    with run.compute.autocast():
        outputs = run.method.generate(batch)
    reported: dict[str, Tensor] = {}
    for player in run.method.players:
        with frozen_except(run.method, player), run.compute.autocast():
            terms = run.method.terms(player, batch, outputs, progress, generator)
        optimiser = run.optimisers[player]
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
        reported |= {name: term.detach() for name, term in terms.items()}
    return reported


@contextmanager
def frozen_except(method: Method[Any], player: str) -> Iterator[None]:
    """While terms are computed, only what the player owns asks for gradients; no others are computed or kept."""
    owned = {id(parameter) for module in method.owned(player) for parameter in module.parameters()}
    others = [p for p in _parameters(method.modules().values()) if id(p) not in owned and p.requires_grad]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def step_generator(seed: int, step: int) -> torch.Generator:
    """The randomness of a step, a function of (seed, step): a continued run draws what the uninterrupted one draws."""
    state = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))  # PyTorch takes 63 bits


def make_optimisers(method: Method[Any], settings: OptimiserSettings, *, fused: bool) -> dict[str, Optimizer]:
    """An Adam for each player."""
    return {
        player: Adam(
            list(_parameters(method.owned(player))),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            fused=fused,
        )
        for player in method.players
    }


def set_learning_rate(optimisers: dict[str, Optimizer], settings: OptimiserSettings, epoch: int) -> float:
    """Give every optimiser the learning rate of an epoch, counted from 1, and return it."""
    factor = learning_rate_factor(epoch, settings.constant_epochs, settings.decay_epochs)
    rate = settings.learning_rate * factor
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = rate
    return rate


@dataclass(slots=True)
class Stop:
    """Whether somebody asked the run to stop."""

    requested: bool = False


@contextmanager
def stop_requests() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a request that the loop sees after its step; a second one acts at once."""
    stop, watched = Stop(), (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in watched}

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.requested = True
        say(f"{signal.Signals(number).name}: finishing this step and saving; once more stops at once")
        for watched_number, handler in before.items():
            signal.signal(watched_number, handler)

    for number in watched:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _build(folder: RunFolder, store: Store, settings: TrainSettings) -> Run:
    """Everything a run needs; what the store or the machine cannot give is refused here."""
    compute = resolve(settings.device, settings.precision)
    order = plan_order(store, settings.data, seed=settings.seed, epochs=settings.optimiser.epochs)
    torch.manual_seed(settings.seed)
    method = build_method(settings)
    check_multiple(store.manifest.view_side, method.multiple, f"the views of {store.path}")
    method.check_side(store.manifest.view_side)
    for module in method.modules().values():
        module.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it
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
        store=str(run.store.path),
        seal=manifest.seal,
        method=run.settings.method,
        synthetic=manifest.synthetic,
        upscaler=manifest.upscaler.name,
        pairs=run.order.pairs,
        draws=run.order.steps * run.order.batch,
        device=str(run.compute.device),
        precision=run.compute.precision,
        parameters={
            name: sum(p.numel() for p in module.parameters()) for name, module in run.method.modules().items()
        },
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
    parameters = ", ".join(f"{name} {count:,}" for name, count in facts.parameters.items())
    return (
        f"{to_toml(run.settings)}\n"
        f"{facts.method} on {facts.store}{' (synthetic)' if facts.synthetic else ''}: {order.pairs} train pairs, "
        f"views {', '.join(order.counts)} at {side} px, views enlarged by {facts.upscaler}\n"
        f"{order.epochs} epochs x {order.steps_per_epoch} steps of batch {order.batch} = {order.steps} steps on "
        f"{facts.device} in {facts.precision}\n"
        f"parameters: {parameters}\n"
        f"run folder: {run.folder.path}"
    )


def _parameters(modules: Iterable[nn.Module]) -> Iterator[nn.Parameter]:
    for module in modules:
        yield from module.parameters()
