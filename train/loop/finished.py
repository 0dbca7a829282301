"""Whether a run is finished: its result is there and sound. What was lost beside the result is written again."""

from __future__ import annotations

import torch

from store.files import disk_errors
from store.records.facts import read_facts
from store.schema import MagstainError, RunError
from train.loop.session import Run, header_of
from train.run.checkpoint import Position, read_newest, restore
from train.run.generator_file import load_generator
from train.run.metrics import keep_lines
from train.run.model_card import write_model_card


def is_finished(run: Run) -> bool:
    """Whether the run has its result. A damaged one is renamed, with a warning: the last checkpoint gives another.

    Raises RunError for a damaged result without such a checkpoint.
    """
    folder = run.folder
    if not folder.generator.exists():
        return False
    kept = _restore_newest(run)
    problem = _problem(run, kept)
    if problem and kept is None:
        raise RunError(
            f"{problem}; there is no checkpoint to write it from: bring back a copy, or delete it to train again"
        )
    if problem:
        with disk_errors(folder.generator):
            renamed = folder.generator.replace(folder.generator.with_suffix(".damaged"))
        run.console.say(f"warning: {problem}; renamed to {renamed.name}, and written again from the last checkpoint")
        return False
    if kept:
        _restore_reports(run, kept)
    return True


def _restore_newest(run: Run) -> Position | None:
    """The position of the newest intact checkpoint, whose networks the run then has; None without one."""
    try:
        data, warnings = read_newest(run.folder)
    except RunError as error:
        data, warnings = b"", [str(error)]
    for warning in warnings:
        run.console.say(f"warning: {warning}")
    fresh = not run.started_from
    return restore(data, run.state, run.optimisers, run.order.steps, fresh=fresh) if data else None


def _problem(run: Run, kept: Position | None) -> str:
    """What is wrong with the result; nothing if "". It is compared with the last checkpoint if that is of the end."""
    file, ours = run.folder.generator, header_of(run)
    try:
        trained = load_generator(file)
    except MagstainError as error:
        return str(error)
    theirs = trained.header
    if (theirs.method, theirs.seal, theirs.step) != (ours.method, ours.seal, ours.step):
        of = f"{theirs.method} after step {theirs.step}, on a store with seal {str(theirs.seal)[:12]}"
        return f"{file} is not of this run: it is of {of}"
    tensors = trained.generator.state_dict()
    if kept and kept.step == ours.step:
        expected = run.result.state_dict()
        unlike = [name for name, tensor in tensors.items() if not torch.equal(tensor.cpu(), expected[name].cpu())]
        if unlike:
            return f"{file} is damaged: {unlike[0]} is not that of the last checkpoint"
    return ""


def _restore_reports(run: Run, kept: Position) -> None:
    folder, say = run.folder, run.console.say
    if kept.step == run.order.steps:  # an earlier checkpoint does not know the lines after it
        for file, digest in ((folder.metrics, kept.metrics), (folder.validation, kept.validation)):
            for warning in keep_lines(file, kept.step, digest):
                say(f"warning: {warning}")
    if not folder.model_card.exists() or not folder.model_card.stat().st_size:
        facts, skipped = read_facts(folder), kept.skips.total
        write_model_card(folder, run.store, header_of(run), facts, seconds=kept.seconds, skipped=skipped)
        say(f"warning: {folder.model_card} was missing or empty; it is written again")
