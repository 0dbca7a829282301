"""Checkpoints: everything that a run needs to resume.

A checkpoint is one file of plain tensors and values, named `<step>-<digest of its bytes>.pt`. It is written beside its
place, synced and renamed, so that a file with such a name is complete, and later damage is noticed. Nothing else is
unpickled. It holds no random states: all randomness of a step is a function of (seed, step).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from store.disk.removing import remove_file
from store.files import disk_errors, write_whole
from store.foreign.kinds import Format, read_plain, wrong_file
from store.run_files import RunFolder
from store.schema import Interrupted, RunError
from train.run import trusted_state as trusted
from train.run.generator_file import first_not_finite
from train.run.skips import DIVERGED, Skips

FORMAT = 2
KEPT = 2  # checkpoints: the newest, and one in case it gets damaged
KEYS = ("format", "step", "seconds", "terms", "modules", "optimisers")
FOREIGN = "bring back a copy of it, or remove it from the run's checkpoints, to resume from the one before"
LONGEST = 60  # characters of the name of a network
DIGITS = 16  # of the digest in a name
NAME = re.compile(rf"\d{{8,}}-[0-9a-f]{{{DIGITS}}}\.pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a run is: steps done, seconds they took, and the terms that `metrics.jsonl` does not have yet.

    `metrics` and `validation` are the digests of the lines so far, `skips` counts the steps that moved nobody;
    checkpoints of earlier versions have none of them.
    """

    step: int
    seconds: float
    terms: list[dict[str, float]]
    metrics: str | None = None
    validation: str | None = None
    skips: Skips = field(default_factory=Skips)


def save_checkpoint(
    folder: RunFolder, modules: Mapping[str, nn.Module], optimisers: dict[str, Optimizer], position: Position, keep: int
) -> Path:
    """Write all networks, optimisers and the position; returns the file.

    Of older checkpoints the newest stays, and those whose step is a multiple of `keep`, unless `keep` is 0.
    """
    buffer = io.BytesIO()
    torch.save(
        {
            "format": FORMAT,
            "step": position.step,
            "seconds": position.seconds,
            "terms": position.terms,
            "metrics": position.metrics,
            "validation": position.validation,
            "skips": asdict(position.skips),
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "optimisers": {player: _plain_rates(optimiser.state_dict()) for player, optimiser in optimisers.items()},
        },
        buffer,
    )
    data = buffer.getvalue()
    name = f"{position.step:08d}-{hashlib.sha256(data).hexdigest()[:DIGITS]}.pt"
    with disk_errors(folder.checkpoints):
        folder.checkpoints.mkdir(exist_ok=True)
        write_whole(folder.checkpoints / name, data)
    prune(folder, keep)
    return folder.checkpoints / name


def _plain_rates(state: dict[str, Any]) -> dict[str, Any]:
    """The state of an optimiser, whose learning rate is a number also where the optimiser has it on a GPU."""
    return state | {"param_groups": [group | {"lr": float(group["lr"])} for group in state["param_groups"]]}


def prune(folder: RunFolder, keep: int) -> None:
    """Remove checkpoints but the newest, the one before, and those whose step is a multiple of `keep` (0: none)."""
    with disk_errors(folder.checkpoints):
        for old in checkpoints(folder)[KEPT:]:
            if not keep or int(old.name.partition("-")[0]) % keep:
                remove_file(old)


def checkpoints(folder: RunFolder) -> list[Path]:
    """Checkpoints, newest first; files with other names are not ours."""
    return sorted((f for f in folder.checkpoints.glob("*.pt") if NAME.fullmatch(f.name) and f.is_file()), reverse=True)


def read_newest(folder: RunFolder) -> tuple[bytes, list[str]]:
    """The bytes of the newest intact checkpoint, b"" if there is no checkpoint yet; and a warning per damaged one.

    Damaged files that are newer are renamed. Raises RunError if all are damaged.
    """
    damaged: list[Path] = []
    for file in checkpoints(folder):
        with suppress(OSError):  # a file that cannot be read is damaged too
            data = file.read_bytes()
            if has_its_digest(file, data):
                return data, [_rename_damaged(file) for file in damaged]
        damaged.append(file)
    if damaged:
        raise RunError(
            f"no checkpoint of {folder.path} is intact: the bytes of {', '.join(file.name for file in damaged)} do not "
            f"have the digest in the name; bring back a copy, or delete {folder.checkpoints} to start again at step 1"
        )
    return b"", []


def has_its_digest(file: Path, data: bytes) -> bool:
    """Whether the bytes of a file have the digest in its name; a file with another name than ours has none."""
    return not NAME.fullmatch(file.name) or hashlib.sha256(data).hexdigest()[:DIGITS] == file.stem.partition("-")[2]


def read_networks(held: object) -> dict[str, dict[str, Any]]:
    """The state of each network in what PyTorch read from a checkpoint of any method; nothing in it is checked yet.

    Raises RunError, in words that follow "it", for what is no checkpoint of this program.
    """
    state = trusted.has_keys(held, KEYS, "itself")
    _check_format(state)
    networks = trusted.has_keys(state["modules"], (), "its modules")
    if odd := [
        name for name in networks if not (isinstance(name, str) and name.isidentifier() and len(name) < LONGEST)
    ]:
        raise RunError(f"has {trusted.shown(odd[0])} as the name of a network")
    return {name: trusted.has_keys(network, (), f"the {name}") for name, network in networks.items()}


def restore(
    data: bytes,
    modules: Mapping[str, nn.Module],
    optimisers: dict[str, Optimizer],
    steps: int,
    *,
    fresh: bool = True,
) -> Position:
    """Load a checkpoint, given as its bytes, into networks and optimisers; b"" is the start, and changes nothing.

    Rates and other settings of optimisers stay those of the run, which has `steps` steps; `fresh` says whether its
    networks have the weights that they started with. Raises RunError for a checkpoint that is not of such a run,
    whatever it holds.
    """
    if not data:
        return Position(step=0, seconds=0.0, terms=[])
    load = partial(torch.load, map_location="cpu", weights_only=True)
    state = read_plain(data, "the newest checkpoint", load, RunError, FOREIGN)
    try:
        return _restore(trusted.has_keys(state, KEYS, "it"), modules, optimisers, steps, fresh)
    except RunError as error:
        name = f"*-{hashlib.sha256(data).hexdigest()[:DIGITS]}.pt"
        raise RunError(f"the newest checkpoint ({name}) {error}; {FOREIGN}") from error


def _restore(
    state: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    optimisers: dict[str, Optimizer],
    steps: int,
    fresh: bool,
) -> Position:
    _check_format(state)
    position = Position(
        step=trusted.whole_number(state["step"], steps, "its step"),
        seconds=trusted.seconds(state["seconds"]),
        terms=trusted.rows_of_terms(state["terms"]),
        metrics=trusted.digest_or_none(state.get("metrics"), "metrics"),
        validation=trusted.digest_or_none(state.get("validation"), "validation"),
        skips=trusted.skips(state.get("skips"), state["step"]),
    )
    networks = trusted.has_keys(state["modules"], modules, "its modules")
    moments = trusted.has_keys(state["optimisers"], optimisers, "its optimisers")
    for name, module in modules.items():
        trusted.check_module(networks[name], module, name)
    values = {
        id(parameter): networks[name][key]
        for name, module in modules.items()
        for key, parameter in module.named_parameters()
        if fresh
    }
    for player, optimiser in optimisers.items():
        trusted.check_moments(moments[player], optimiser, player, position.step, values)
    for name, module in modules.items():
        module.load_state_dict(networks[name])
    for player, optimiser in optimisers.items():
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": moments[player]["state"], "param_groups": groups})
    return position


def _check_format(state: Mapping[str, Any]) -> None:
    if type(state["format"]) is not int or state["format"] != FORMAT:
        raise RunError(f"has format {trusted.shown(state['format'])}, and this program reads {FORMAT}")


def check_finite(modules: Mapping[str, nn.Module], step: int) -> None:
    """Refuse to save networks that a step broke: its terms were computed before its update. Raises RunError.

    Buffers count too: a step can break running variances and spectral norm's vectors alone.
    """
    for name, module in modules.items():
        state = module.state_dict()  # a pool of fakes adds a list to it
        if broken := first_not_finite({key: one for key, one in state.items() if isinstance(one, torch.Tensor)}):
            raise RunError(f"{broken} of the {name} is not finite after step {step}; {DIVERGED}")


@contextmanager
def naming_last_checkpoint(folder: RunFolder) -> Iterator[None]:
    """A RunError in the block also names the last checkpoint, which is still good."""
    try:
        yield
    except RunError as error:
        found = checkpoints(folder)
        last = f"the last good checkpoint is {found[0]}" if found else "there is no checkpoint yet"
        raise RunError(f"{error}; {last}") from error


def kept(folder: RunFolder) -> str:
    """What a run that stops now keeps, for a message."""
    found = checkpoints(folder)
    return f"the last checkpoint is {found[0]}" if found else f"{folder.path} has no checkpoint yet: nothing was kept"


@contextmanager
def stopped_at_once(folder: RunFolder) -> Iterator[None]:
    """A second Ctrl-C in the block raises Interrupted, which says what is kept."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"at once; {kept(folder)}; run the same command again") from error


def _rename_damaged(file: Path) -> str:
    """Rename a damaged checkpoint so that it no longer counts; returns the message."""
    with disk_errors(file):
        renamed = file.rename(file.with_suffix(".damaged"))
    what = wrong_file(renamed, Format.TORCH)
    problem = f"it {what}" if what else "its bytes do not have the digest in its name"
    return f"{file} is damaged: {problem}; renamed to {renamed.name}"
