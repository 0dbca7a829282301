"""The training loop: steps, reports, checkpoints, signals. Run again, it goes on where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from store.files import locked
from store.images import write_png
from store.process import stop_requests
from store.reader import Store
from store.run_files import RunFolder
from store.schema import Interrupted, RunError, StoreError
from train.data.loader import Reading, read_batches, to_batch
from train.loop.session import Run, announce, build, compile_run, facts_of, header_of
from train.loop.step import seed_layers, set_learning_rate, step_generator, take_long_step
from train.run.checkpoint import (
    Position,
    check_finite,
    checkpoints,
    read_newest,
    restore,
    save_checkpoint,
    save_generator,
)
from train.run.folder import LOCK, claim, make_folder
from train.run.inference import rounded
from train.run.model_card import write_card
from train.run.reporting import EVERY, Board, Teller, Window, append_metrics, cut_metrics
from train.run.snapshots import (
    Example,
    Shown,
    choose_examples,
    choose_samples,
    draw_shown,
    show,
    translate_all,
    validation,
)
from train.runtime.background import Aside, working_aside
from train.runtime.distributed import anyone, join, share, wait
from train.settings import TrainSettings

T = TypeVar("T")


def fit(folder: RunFolder, store: Store, settings: TrainSettings, *, as_json: bool = False) -> None:
    """Train a run to its end, from its last checkpoint if there is one. Raises Interrupted when it was stopped.

    Started by torchrun, all processes train it together; rank 0 alone writes and speaks.
    """
    with join() as ranks:
        run = build(folder, store, settings, ranks, Teller(speaks=ranks.first, as_json=as_json))
        facts = facts_of(run)
        if ranks.first:
            make_folder(folder)
        with locked(folder.path / LOCK, f"the run {folder.path}") if ranks.first else nullcontext():
            if ranks.first:
                claim(folder, run.settings, facts)
            if anyone(ranks.first and folder.generator.exists()):
                run.teller.say(f"{folder.path} is finished ({run.order.steps} steps): {folder.generator}")
                return
            run.teller.say(announce(run, facts))
            position = _resume(run)
            if settings.compile:
                compile_run(run)
            spent = _train(run, position)
            if ranks.first:
                save_generator(folder.generator, run.result, header_of(run))
                write_card(folder, run.store, header_of(run), facts, seconds=spent)
            wait()
        run.teller.say(f"finished: the generator is {folder.generator}, contact sheets are in {folder.samples}")
        run.teller.event("finished", {"run": str(folder.path), "step": run.order.steps})


def _resume(run: Run) -> Position:
    """Bring the run to its newest checkpoint, which rank 0 reads for all."""
    data, warnings = read_newest(run.folder) if run.ranks.first else (b"", [])
    for warning in warnings:
        run.teller.say(f"warning: {warning}")
    position = restore(share(data), run.state, run.optimisers)
    step = position.step
    run.teller.say(f"going on after step {step}" if step else "starting at the first step")
    run.teller.event("started", {"run": str(run.folder.path), "step": step, "steps": run.order.steps})
    return position


def _train(run: Run, position: Position) -> float:
    """All steps after `position`, and a checkpoint of the last one; returns the seconds of the whole run."""
    settings, order, done = run.settings, run.order, position.step
    if run.ranks.first:
        cut_metrics(run.folder.metrics, done)
        cut_metrics(run.folder.validation, done)
    pin, workers = run.compute.cuda, settings.data.workers
    readings = read_batches(run.store, order, done=done, workers=workers, pin=pin, rank=run.ranks.rank)
    board = Board(run.folder.tensorboard, done=done, wanted=settings.tensorboard and run.ranks.first)
    progress_bar = run.teller.bar(total=order.steps, done=done, what=settings.method)
    stopping, limit = stop_requests(run.teller.say), settings.time_limit * 60 or math.inf
    with stopping as stop, closing(board), closing(readings) as stream, working_aside() as aside, progress_bar as bar:
        watch = _Watch(run=run, board=board, aside=aside, bar=bar, began=position, saved=done)
        for step in range(done + 1, order.steps + 1):
            parts = watch.read(stream, step)
            rate = set_learning_rate(run.optimisers, settings.optimiser, order.epoch(step))
            watch.window.add(step, _step(run, parts, step))
            bar.update()
            last = step == order.steps
            leaving = anyone(stop.requested or watch.here >= limit) and not last
            if last or step % EVERY == 0:
                watch.report(step, rate)
            if last or step % settings.sample_every == 0:
                watch.sample(step)
            if settings.validate_every and (last or step % settings.validate_every == 0):
                watch.validate(step)
            if last or leaving or step % settings.checkpoint_every == 0:
                watch.save(step)
            if leaving:
                raise Interrupted(f"{run.folder.path} is saved after step {step} of {order.steps}; run the same again")
        return watch.seconds


def _step(run: Run, parts: list[Reading], step: int) -> dict[str, Tensor]:
    """Step `step`, counted from 1, on what was read for it. Returns its terms, still on the device."""
    settings = run.settings
    progress = (run.order.epoch(step) - 1) / run.order.epochs
    batches = [to_batch(reading, run.compute.device) for reading in parts]
    generators = [step_generator(settings.seed, step, part) for part in range(len(parts))]
    seed_layers(settings.seed, step, run.ranks.rank)
    clip = settings.optimiser.clip
    terms = take_long_step(run.method, run.optimisers, run.compute, batches, progress, generators, clip)
    for average in run.averages:
        average.follow(run.method.modules()["generator"])
    return terms


@dataclass(slots=True, kw_only=True)
class _Watch:
    """What stands beside the steps: the lines, sheets and checkpoints of a run, which rank 0 writes."""

    run: Run
    board: Board
    aside: Aside
    bar: tqdm[Any]
    began: Position
    saved: int  # the step of the last checkpoint
    started: float = field(default_factory=time.monotonic)
    window: Window = field(init=False)
    shown: Shown = field(init=False)
    examples: list[Example] = field(init=False)

    def __post_init__(self) -> None:
        run, views = self.run, self.run.settings.data.views
        self.window = Window(seen=self.began.terms)
        self.shown = show(run.store, choose_samples(run.store, views))
        self.examples = choose_examples(run.store, views) if run.settings.validate_every else []

    @property
    def here(self) -> float:
        """Seconds since this start."""
        return time.monotonic() - self.started

    @property
    def seconds(self) -> float:
        """Seconds of all starts of the run."""
        return self.began.seconds + self.here

    def read(self, stream: Generator[Reading], step: int) -> list[Reading]:
        """The batches of a step. If they cannot be had, the run is saved as far as it came."""
        try:
            return [next(stream) for _ in range(self.run.order.accumulate)]
        except (StoreError, RunError):
            if self.run.ranks.count == 1 and step - 1 > self.saved:
                self.save(step - 1)
            raise

    def report(self, step: int, rate: float) -> None:
        """A line of metrics: the means of all terms since the last one. RunError if one is not finite."""
        means = self.checked(self.window.means)
        epoch = self.run.order.epoch(step)
        line = {"step": step, "epoch": epoch, "seconds": round(self.seconds, 3), "learning_rate": rate} | means
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)
        if self.run.ranks.first:
            append_metrics(self.run.folder.metrics, line)
            self.board.scalars("train", means | {"learning_rate": rate}, step)
            self.run.teller.event("metrics", line)

    def sample(self, step: int) -> None:
        """A contact sheet. Translations are made here, everything else beside the loop."""
        if not self.run.ranks.first:
            return
        run = self.run
        pictures, pairs = [row.pictures[0] for row in self.shown.rows], [sample.pair for sample in self.shown.samples]
        fakes = translate_all(run.result, run.compute, run.settings.generator.at_test, pictures, pairs)

        def work() -> None:
            title = f"{run.settings.method}, step {step} of {run.order.steps}"
            sheet: NDArray[np.uint8] = draw_shown(self.shown, [rounded(fake) for fake in fakes], title)
            write_png(run.folder.samples / f"{step:06d}.png", sheet)
            self.board.picture("samples", sheet, step)

        self.aside.do(work)

    def validate(self, step: int) -> None:
        """SSIM and PSNR on val. Translations are made here, everything else beside the loop."""
        if not self.run.ranks.first or not self.examples:
            return
        run, examples = self.run, self.examples
        pictures, pairs = [example.he for example in examples], [example.pair for example in examples]
        fakes = translate_all(run.result, run.compute, run.settings.generator.at_test, pictures, pairs)

        def work() -> None:
            means = validation([rounded(fake) for fake in fakes], examples)
            line = {"step": step, "pictures": len(examples)} | means
            append_metrics(run.folder.validation, line)
            self.board.scalars("validation", means, step)
            run.teller.event("validation", line)

        self.aside.do(work)

    def save(self, step: int) -> None:
        """A checkpoint, after all that lies beside the loop is on the disk. RunError if there is nothing to rely on."""
        terms = self.checked(self.window.look)
        self.checked(lambda: check_finite(self.run.method.modules(), step))
        if not self.run.ranks.first:
            return
        run = self.run
        self._check_store()
        self.aside.settle()
        self.board.flush()
        reached = Position(step=step, seconds=self.seconds, terms=terms)
        file = save_checkpoint(run.folder, run.state, run.optimisers, reached, run.settings.keep_every)
        self.saved = step
        run.teller.event("saved", {"step": step, "file": str(file)})

    def checked(self, look: Callable[[], T]) -> T:
        """What `look` gives; where it refuses, its error also names the checkpoint that can still be relied on."""
        try:
            return look()
        except RunError as error:
            kept = checkpoints(self.run.folder)
            last = f"the last good checkpoint is {kept[0]}" if kept else "there is no checkpoint yet"
            raise RunError(f"{error}; {last}") from error

    def _check_store(self) -> None:
        """The store is still the one that the run began on: what was read since the last checkpoint came from it."""
        store, seal = self.run.store, self.run.store.manifest.seal
        now = Store.open(store.location).manifest.seal
        if now != seal:
            raise RunError(
                f"{store.address} became another store while this run read it (seal {seal[:12]}, now {now[:12]}); the "
                f"steps after step {self.saved} are not saved: bring the first store back and run the same again"
            )
