"""What a run says before its first step: a line for each thing that matters, and notes on what may surprise."""

from __future__ import annotations

from shlex import quote

from store.cli import wrapped
from store.records.facts import RunFacts
from store.schema import Split, Stain
from train.data.sampling import ReadingOrder
from train.loop.session import Run
from train.methods.base import GENERATOR
from train.methods.registry import METHODS
from train.run.snapshots import sample_split
from train.runtime.device import idle_gpu
from train.settings import Norm, Use

COLUMN = 12  # characters of the first column


def announce(run: Run, facts: RunFacts) -> str:
    """What the run will do, in lines of at most 100 columns unless a path is longer."""
    settings, order, manifest = run.settings, run.order, run.store.manifest
    views = ", ".join(f"{view.view} ({view.share:.0%})" for view in order.views)
    unpaired = "" if order.paired else "; unpaired: each H&E picture goes with the IHC of a random pair"
    amount = f"{order.pairs} train pairs"
    if not manifest.paired:
        he, ihc = (manifest.tiles_of(Split.TRAIN, stain) for stain in Stain)
        amount = f"{he} H&E and {ihc} IHC train tiles"
        unpaired = f"; unpaired: both stains are drawn separately, {order.pairs} of each in an epoch"
    lines = {
        "method": f"{settings.method}: {METHODS[settings.method].title}",
        "store": f"{facts.store}: H&E to {manifest.stain}{', SYNTHETIC DATA' * manifest.synthetic}",
        "data": (f"{amount}, views {views} of {manifest.view_side} px, enlarged by {facts.upscaler}{unpaired}"),
        "loss": " + ".join(f"{weight:g} x {name}" for name, weight in run.method.weights.items()),
        "length": (
            f"{order.epochs} epochs x {order.steps_per_epoch} steps of batch {_batch(order)} = {order.steps} steps on "
            f"{facts.device} in {facts.precision}"
        ),
        "parameters": ", ".join(f"{name} {count:,}" for name, count in facts.parameters.items() if count),
    }
    if facts.started_from:
        lines["weights"] = f"from {facts.started_from}"
    if facts.frozen:
        lines["frozen"] = facts.describe_frozen(settings.freeze)
    to_copy = {"settings": str(run.folder.settings)}
    if settings.tensorboard:
        to_copy["watch"] = f"tensorboard --logdir {quote(str(run.folder.tensorboard))}"
    return "\n".join(
        [
            *(wrapped(f"{name:<{COLUMN}}{text}", indent=" " * COLUMN) for name, text in lines.items()),
            *(f"{name:<{COLUMN}}{text}" for name, text in to_copy.items()),
            *(wrapped(f"{'note':<{COLUMN}}{note}", indent=" " * COLUMN) for note in _notes(run, facts)),
        ]
    )


def _batch(order: ReadingOrder) -> str:
    if order.parts == 1:
        return str(order.batch)
    factors = f"{order.batch} in each of {order.processes} processes x {order.accumulate} accumulated"
    return f"{order.effective_batch} ({factors}; the learning rate stays as set)"


def _notes(run: Run, facts: RunFacts) -> list[str]:
    settings, order = run.settings, run.order
    notes = [why] if (why := idle_gpu(settings.device)) else []
    if not run.store.manifest.paired:
        notes.append(
            f"the store is unpaired: there is no validation (SSIM and PSNR need pairs: n/a), and samples show H&E of "
            f"{sample_split(run.store)} and translations, without a real IHC beside them"
        )
    elif not run.store.manifest.counts.get(Split.VAL, 0):
        shown = sample_split(run.store)
        notes.append(
            f"the store has no val pairs: there is no validation, and samples show {shown} pairs, which the run learns "
            "from"
        )
    if order.parts > 1 and Norm.BATCH in (settings.generator.norm, settings.discriminator.norm):
        notes.append(
            f"batch norm uses the statistics of {order.batch} pictures at a time, not of {order.effective_batch}: the "
            "run differs from one with that batch"
        )
    if run.compute.cuda and run.ranks.count > 1 and settings.graph is not Use.OFF:
        several = f"graph = {settings.graph} with {run.ranks.count} processes"
        notes.append(f"{several}: steps are not captured as CUDA graphs")
    started = facts.started_from.taken if facts.started_from else {}
    if fresh := [name for name in facts.frozen if name not in started]:
        notes.append(f"frozen with fresh weights, as nothing was read for them: {', '.join(fresh)}")
    notes += [
        f"all that the player {player} trains is frozen: its terms are reported, and it learns nothing"
        for player in run.method.players
        if player not in run.optimisers
    ]
    if facts.frozen.get(GENERATOR, 0) == facts.parameters.get(GENERATOR):
        notes.append(
            "the generator is frozen: the result will be the generator that the run starts with; what else it learns "
            "is in its checkpoints, from which another run can start (init_from)"
        )
    if settings.ema:
        notes.append(f"EMA (decay {settings.ema:g}): samples, validation and the saved generator use averaged weights")
    return notes
