"""The training loop: read, step, report, save. The same call again resumes from the last checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from functools import partial

from store.disk.locks import locked
from store.process import Stop, stop_requests
from store.reader import Store
from store.run_files import RunFolder
from store.schema import Interrupted, RunError, StoreError
from train.data.batch import RawBatch
from train.data.loader import bytes_of_batch, read_batches
from train.data.transport import plan_readers
from train.loop.announce import announce
from train.loop.cpu_hours import warn_of_cpu
from train.loop.finished import is_finished
from train.loop.schedule import set_learning_rate
from train.loop.session import Run, adapt_to_store, build, compile_run, facts_of, header_of, make_step
from train.loop.step import seed_layers, step_generator
from train.methods.decisions import Decisions
from train.run.checkpoint import (
    Position,
    check_finite,
    kept,
    naming_last_checkpoint,
    prune,
    read_newest,
    restore,
    save_checkpoint,
    stopped_at_once,
)
from train.run.console import Console
from train.run.folder import claim, make_folder, sweep
from train.run.generator_file import save_generator
from train.run.metrics import lines_digest
from train.run.model_card import write_model_card
from train.run.reporting import EVERY, Reporter, open_reporter
from train.runtime.distributed import any_process, broadcast, join, wait_for_all
from train.runtime.launch import Launcher, find_launcher, is_first
from train.settings import TrainSettings


def fit(
    folder: RunFolder, store: Store, settings: TrainSettings, *, adapt: bool = False, as_json: bool = False
) -> None:
    """Train a run to its end, from its last checkpoint if there is one. Raises Interrupted when it was stopped.

    Started by torchrun, all processes train it together; only rank 0 writes files and messages. `adapt` lowers the
    depth of a U-Net to what the store allows; `as_json` writes events to stdout.
    """
    launcher = find_launcher()
    with stop_requests(Console(active=is_first()).say) as stop, stopped_at_once(folder), join() as ranks:
        console = Console(active=ranks.first, as_json=as_json)
        run = build(folder, store, _adapted(settings, store, console) if adapt else settings, ranks, console)
        facts = facts_of(run)
        if ranks.first:
            make_folder(folder)
        with locked(folder.lock, f"the run {folder.path}") if ranks.first else nullcontext():
            if ranks.first:
                sweep(folder)
                for warning in claim(folder, run.settings, facts):
                    console.say(f"warning: {warning}")
            if any_process(ranks.first and is_finished(run)):
                run.console.say(f"{folder.path} is finished ({run.order.steps} steps): {folder.generator}")
                return
            run.console.say(announce(run, facts))
            start = _resume(run)
            warn_of_cpu(run, start.step)
            if ranks.first:
                prune(folder, settings.keep_every)  # a start that was killed may have left one more
            wanted = Wanted(stop=stop, launcher=launcher)
            wanted.check(run, start.step)
            if settings.compile:
                compile_run(run)
                wanted.check(run, start.step)
            end = _train(run, start, wanted)
            skipped = end.skips.total
            if ranks.first:
                save_generator(folder.generator, run.result, header_of(run))
                write_model_card(folder, run.store, header_of(run), facts, seconds=end.seconds, skipped=skipped)
            wait_for_all()
        left_out = f"; steps that were skipped, as a term or gradient was not finite: {skipped} of {end.step}"
        run.console.say(
            f"finished: the generator is {folder.generator}, contact sheets are in {folder.samples}"
            + (left_out if skipped else "")
        )
        run.console.event("finished", {"run": str(folder.path), "step": end.step, "skipped": skipped})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Whether the run should stop: a signal came, or the process that started this one with others is gone."""

    stop: Stop
    launcher: Launcher

    @property
    def stops(self) -> bool:
        """Whether this process wants to stop."""
        return self.stop.requested or self.launcher.is_gone

    def check(self, run: Run, step: int) -> None:
        """Raise Interrupted in all processes if one of them wants to stop before the step after `step`."""
        if any_process(self.stops):
            raise Interrupted(f"before step {step + 1}, {kept(run.folder)}; run the same command again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Seconds of this start of a run, and of all its starts: `earlier` ones took that many."""

    earlier: float
    started: float = field(default_factory=time.monotonic)

    @property
    def this_start(self) -> float:
        """Seconds since this start."""
        return time.monotonic() - self.started

    @property
    def total(self) -> float:
        """Seconds of all starts up to now."""
        return self.earlier + self.this_start


def _adapted(settings: TrainSettings, store: Store, console: Console) -> TrainSettings:
    """The settings with a depth that the store allows; says so where it differs."""
    adapted = adapt_to_store(settings, store)
    if adapted != settings:
        console.say(
            f"--adapt: generator.depth = {adapted.generator.depth} instead of {settings.generator.depth}, for views of "
            f"{store.manifest.view_side} px and tiles of {store.manifest.tile_side} px"
        )
    return adapted


def _resume(run: Run) -> Position:
    """Load the newest checkpoint, which rank 0 reads for all processes."""
    data, warnings = read_newest(run.folder) if run.ranks.first else (b"", [])
    for warning in warnings:
        run.console.say(f"warning: {warning}")
    start = restore(broadcast(data), run.state, run.optimisers, run.order.steps, fresh=not run.started_from)
    if run.ranks.first and not start.step and run.folder.metrics.exists():
        run.console.say(
            f"warning: {run.folder.checkpoints} has no checkpoint: all steps and their lines are made again"
        )
    run.console.say(f"resuming after step {start.step}" if start.step else "starting at step 1")
    run.console.event("started", {"run": str(run.folder.path), "step": start.step, "steps": run.order.steps})
    return start


def _train(run: Run, start: Position, wanted: Wanted) -> Position:
    """All steps after `start`, the last one saved; returns the end of the run."""
    settings, order = run.settings, run.order
    clock, limit, saved = Clock(earlier=start.seconds), settings.time_limit * 60 or math.inf, start.step
    take_step = make_step(run)
    with _report_from(run, start) as reporter, closing(_read_from(run, start.step)) as stream:
        for step in range(start.step + 1, order.steps + 1):
            last = step == order.steps
            try:
                raw_batches = [next(stream) for _ in range(order.accumulate)]
            except (StoreError, RunError):  # what was done so far is saved
                if run.ranks.count == 1 and step - 1 > saved:
                    _save(run, reporter, step - 1, clock.total, saved)
                raise
            rate = set_learning_rate(run.optimisers, settings.optimiser, order.epoch(step))
            seed = partial(seed_layers, settings.seed, step, run.ranks.rank)
            reporter.add(step, take_step(raw_batches, _decide(run, step), seed))
            leaving = not last and any_process(wanted.stops or clock.this_start >= limit)

            if last or step % EVERY == 0:
                reporter.write_metrics(step, rate, clock.total)
            if last or step % settings.sample_every == 0:
                reporter.write_samples(step, run.result)
            if settings.validate_every and (last or step % settings.validate_every == 0):
                reporter.write_validation(step, run.result)
            if last or leaving or step % settings.checkpoint_every == 0:
                saved = _save(run, reporter, step, clock.total, saved)
            if leaving:
                raise Interrupted(
                    f"{run.folder.path} is saved after step {step} of {order.steps}; run the same command to resume"
                )
        return Position(step=order.steps, seconds=clock.total, terms=[], skips=reporter.window.skips)


def _decide(run: Run, step: int) -> list[Decisions]:
    """What is random or scheduled in a step, for each of its accumulated batches."""
    order, side = run.order, run.store.manifest.view_side
    generators = [step_generator(run.settings.seed, step, part) for part in range(order.accumulate)]
    return [run.method.decide(order.batch, side, order.progress(step), generator) for generator in generators]


def _read_from(run: Run, done: int) -> Generator[RawBatch]:
    """The batches of this process after `done` steps."""
    readers = plan_readers(run.settings.data.workers, bytes_of_batch(run.store, run.order))
    if readers.note:
        run.console.say(readers.note)
    workers, pin = readers.processes, run.compute.cuda
    return read_batches(run.store, run.order, done=done, workers=workers, pin=pin, rank=run.ranks.rank)


def _report_from(run: Run, start: Position) -> AbstractContextManager[Reporter]:
    """The reports of the steps after `start`."""
    return open_reporter(
        run.folder,
        run.store,
        run.settings,
        order=run.order,
        terms=run.method.weights,
        compute=run.compute,
        console=run.console,
        start=start,
    )


def _save(run: Run, reporter: Reporter, step: int, seconds: float, saved: int) -> int:
    """A checkpoint after `step`, when all reports so far are on disk; the last one was after step `saved`.

    Returns `step`. Raises RunError for values that are not finite, for too many skipped steps in a row, and if the
    store was replaced.
    """
    reporter.fetch_terms()
    with naming_last_checkpoint(run.folder):
        check_finite(run.state, step)
    if run.ranks.first:
        _check_store(run.store, saved)
        reporter.flush()
        lines = {"metrics": lines_digest(run.folder.metrics), "validation": lines_digest(run.folder.validation)}
        window = reporter.window
        position = Position(step=step, seconds=seconds, terms=window.fetched, skips=window.skips, **lines)
        file = save_checkpoint(run.folder, run.state, run.optimisers, position, run.settings.keep_every)
        run.console.event("saved", {"step": step, "file": str(file)})
    return step


def _check_store(store: Store, saved: int) -> None:
    """Raise RunError unless the store is still the one that the run reads from."""
    seal = store.manifest.seal
    now = Store.open(store.location).manifest.seal
    if now != seal:
        raise RunError(
            f"{store.address} was replaced by another store while this run read it (seal {seal[:12]}, now {now[:12]}); "
            f"the steps after step {saved} are not saved: bring the first store back and run the same command again"
        )
