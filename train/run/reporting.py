"""What a run reports while it trains: progress, lines of metrics, contact sheets, validation scores, event files.

Every process calls the reporter at the same steps, because terms are averaged over processes; only the process with
the active console writes.
Samples and validation pictures are translated at once; everything else about them is done in the background.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

from torch import nn

from store.cli import Progress
from store.images import write_png
from store.reader import Store
from store.run_files import RunFolder
from store.schema import Split, Stain
from train.data.block_sampling import pairs_of_step
from train.data.sampling import ReadingOrder
from train.methods.base import ADVERSARIAL, DISCRIMINATOR
from train.run.checkpoint import Position, naming_last_checkpoint
from train.run.console import Console
from train.run.event_files import EventFiles
from train.run.inference import rounded
from train.run.metrics import Terms, TermWindow, append_line, keep_lines
from train.run.skips import check_in_row, remarks
from train.run.snapshots import (
    Example,
    Samples,
    choose_examples,
    choose_samples,
    draw_samples,
    read_samples,
    translate_all,
    validation_scores,
)
from train.runtime.background import Background, background_work
from train.runtime.device import Compute
from train.settings import TrainSettings

EVERY = 25  # steps between two lines of metrics, because each waits for the device
MOST_PAIRS = 8  # of a step, that one message names


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """The reports of one start of a run; made by `open_reporter`. `terms` are the names of the generator's terms."""

    folder: RunFolder
    store: Store
    settings: TrainSettings
    order: ReadingOrder
    terms: Collection[str]
    compute: Compute
    console: Console
    window: TermWindow
    samples: Samples
    examples: list[Example]
    event_files: EventFiles
    background: Background
    bar: Progress

    def add(self, step: int, terms: Terms) -> None:
        """Take in the terms of a step, still on the device."""
        self.window.add(step, terms)
        self.bar.set_description_str(f"epoch {self.order.epoch(step)}/{self.order.epochs}", refresh=False)
        self.bar.update()

    def write_metrics(self, step: int, rate: float, seconds: float) -> None:
        """A line of metrics: steps skipped and means of terms since the last line. RunError as for `fetch_terms`."""
        self.fetch_terms()
        means = self.window.take()
        line = {"step": step, "epoch": self.order.epoch(step), "seconds": round(seconds, 3), "learning_rate": rate}
        losses = main_losses(means, self.terms)
        self.bar.set_postfix_str(", ".join(f"{name} {value:.3g}" for name, value in losses.items()), refresh=False)
        if self.console.active:
            append_line(self.folder.metrics, line | means)
            self.event_files.scalars("train", means | {"learning_rate": rate}, step)
            self.console.event("metrics", line | means)

    def write_samples(self, step: int, generator: nn.Module) -> None:
        """A contact sheet of fixed pictures, translated by `generator`."""
        if not self.console.active:
            return
        samples = self.samples
        pictures, seeds = [row.pictures[0] for row in samples.rows], [ref.pair for ref in samples.refs]
        fakes = translate_all(generator, self.compute, self.settings.generator.at_test, pictures, seeds)

        def draw() -> None:
            title = f"{self.settings.method}, step {step} of {self.order.steps}"
            sheet = draw_samples(samples, [rounded(fake) for fake in fakes], title)
            write_png(self.folder.samples / f"{step:06d}.png", sheet)
            self.event_files.picture("samples", sheet, step)

        self.background.submit(draw)

    def write_validation(self, step: int, generator: nn.Module) -> None:
        """A line with SSIM and PSNR on val, as `generator` translates it; nothing if the store has no val pairs."""
        if not self.console.active or not self.examples:
            return
        examples = self.examples
        pictures, seeds = [example.he for example in examples], [example.pair for example in examples]
        fakes = translate_all(generator, self.compute, self.settings.generator.at_test, pictures, seeds)

        def score() -> None:
            means = validation_scores([rounded(fake) for fake in fakes], examples)
            line = {"step": step, "pictures": len(examples)} | means
            append_line(self.folder.validation, line)
            self.event_files.scalars("validation", means, step)
            self.console.event("validation", line)

        self.background.submit(score)

    def fetch_terms(self) -> None:
        """Wait for the terms of all steps so far, and say which steps stand out.

        Raises RunError if as many steps in a row were skipped as the settings bear.
        """
        unusual = self.window.fetch()
        for remark in remarks(unusual, self._pairs_of):
            self.console.say(f"warning: {remark}")
        with naming_last_checkpoint(self.folder):
            check_in_row(unusual, self.settings.optimiser.stop_after_skips, self._pairs_of)

    def _pairs_of(self, step: int) -> str:
        """The ids of the pairs that a step used, the first of them."""
        pairs = self.store.pairs(Split.TRAIN)
        of_step = [(pairs[pair.he.pair], pairs[pair.ihc.pair]) for pair in pairs_of_step(self.order, step)]
        ids = list(dict.fromkeys(name for he, ihc in of_step for name in (he.id_of(Stain.HE), ihc.id_of(Stain.IHC))))
        return ", ".join(ids[:MOST_PAIRS]) + (f" and {len(ids) - MOST_PAIRS} more" if len(ids) > MOST_PAIRS else "")

    def flush(self) -> None:
        """Return when every report so far is on disk."""
        self.background.wait()
        self.event_files.flush()


@contextmanager
def open_reporter(
    folder: RunFolder,
    store: Store,
    settings: TrainSettings,
    *,
    order: ReadingOrder,
    terms: Collection[str],
    compute: Compute,
    console: Console,
    start: Position,
) -> Iterator[Reporter]:
    """A reporter for the steps after `start`; reports of later steps, from an earlier start, are removed."""
    if console.active:
        for warning in [
            *keep_lines(folder.metrics, start.step, start.metrics),
            *keep_lines(folder.validation, start.step, start.validation),
        ]:
            console.say(f"warning: {warning}")
    views = settings.data.views
    event_files = EventFiles(folder.tensorboard, done=start.step, wanted=settings.tensorboard and console.active)
    bar = console.progress(total=order.steps, done=start.step, what=settings.method)
    with closing(event_files), background_work() as background, bar:
        yield Reporter(
            folder=folder,
            store=store,
            settings=settings,
            order=order,
            terms=terms,
            compute=compute,
            console=console,
            window=TermWindow(fetched=start.terms, skips=start.skips),
            samples=read_samples(store, choose_samples(store, views)),
            examples=choose_examples(store, views) if settings.validate_every else [],
            event_files=event_files,
            background=background,
            bar=bar,
        )


def main_losses(means: Mapping[str, float], terms: Collection[str]) -> dict[str, float]:
    """The losses on the progress line: of the discriminator (D), adversarial (adv), and the largest other in `terms`.

    None where all steps were skipped.

    >>> means = {"discriminator_fake": 0.1, "discriminator_real": 0.2, "adversarial": 0.9, "nce": 4.0, "asp": 5.0}
    >>> list(main_losses(means, ["adversarial", "nce", "asp"]))
    ['D', 'adv', 'asp']
    """
    scored = [means[name] for name in (f"{DISCRIMINATOR}_fake", f"{DISCRIMINATOR}_real") if name in means]
    losses = {"D": sum(scored)} if scored else {}
    if ADVERSARIAL in terms and ADVERSARIAL in means:
        losses["adv"] = means[ADVERSARIAL]
    others = [name for name in terms if name in means and not name.startswith(ADVERSARIAL)]
    if others:
        largest = max(others, key=lambda name: means[name])
        losses[largest] = means[largest]
    return losses
