"""Start from weights: the setting `init_from` names a generator file, a checkpoint or a run, from which networks come.

Only weights are taken, with norms' statistics and vectors of spectral norm: optimisers, schedule and counters are those
of a new run. A generator file fills the generator from H&E to IHC alone, also of CycleGAN, which has two; a checkpoint
fills every network that it has under the same name. What no file fills stays fresh.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from store.files import digest_bytes, digest_file
from store.foreign.kinds import Format, read_plain, wrong_file
from store.records.facts import StartedFrom, read_facts
from store.run_files import RunFolder
from store.schema import RunError
from store.settings import differences, plain, validate
from store.untrusted.documents import shorten
from train.methods.base import GENERATOR
from train.run.checkpoint import checkpoints, has_its_digest, read_networks
from train.run.folder import recorded_init
from train.run.generator_file import load_generator
from train.runtime.distributed import Ranks, broadcast
from train.settings import TrainSettings

SHOWN = 3  # names of tensors that a message lists
REMEDY = "give a run's folder, its generator.safetensors or one of its checkpoints"
IMPORT = "published weights become a run first, with `python -m train import`"
LOAD = partial(torch.load, map_location="cpu", weights_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What a file holds: the tensors of each network, and the differences of its generator's settings, in words."""

    file: Path
    sha256: str
    networks: dict[str, dict[str, Tensor]]
    differs: str = ""


def start_from(
    folder: RunFolder, settings: TrainSettings, modules: Mapping[str, nn.Module], ranks: Ranks
) -> StartedFrom | None:
    """Fill the networks of a run from `init_from`, in all processes alike; None without that setting.

    A run that has a checkpoint or its result is left as it is, and does not need the file. If that is there, its
    digest is told instead of the recorded one. Raises RunError for what is no such file, and for weights that do not
    fit, with their names.
    """
    if not settings.init_from:
        return None
    packed = io.BytesIO()
    if ranks.first:
        record, networks = _begin(folder, settings, modules)
        torch.save({"record": plain(record), "networks": networks}, packed)
    held = read_plain(broadcast(packed.getvalue()), "what the first process sent", LOAD, RunError, "start all again")
    assert isinstance(held, dict)
    for name, state in held["networks"].items():
        modules[name].load_state_dict(state)
    return validate(StartedFrom, held["record"])


def _begin(
    folder: RunFolder, settings: TrainSettings, modules: Mapping[str, nn.Module]
) -> tuple[StartedFrom, dict[str, dict[str, Tensor]]]:
    """What the run started from, and the tensors that it takes now: none if it has gone on since."""
    path = Path(settings.init_from).expanduser()
    before = _recorded(folder)
    goes_on = bool(checkpoints(folder)) or folder.generator.exists()
    again = f"; {folder.path} has no checkpoint yet, so that it begins again and needs it" * bool(
        before and not goes_on
    )
    try:
        if before and goes_on:
            return replace(before, sha256=_digest_now(folder, path, before)), {}
        weights = read_weights(_file_of(path), settings)
        return choose(weights, modules)
    except RunError as error:
        raise RunError(f"init_from = {error}{again}") from error


def _recorded(folder: RunFolder) -> StartedFrom | None:
    """What the run's first start took its weights from, if it is known."""
    try:
        return read_facts(folder).started_from if folder.facts.exists() else None
    except RunError:  # `claim` says what to do about it
        return None


def _digest_now(folder: RunFolder, path: Path, before: StartedFrom) -> str:
    """The sha256 of what `path` names now; the recorded one where nothing is there, or where a run has gone on."""
    if path.is_dir():
        run, name = RunFolder(path), Path(before.file).name
        known = [file for file in (run.checkpoints / name, run.path / name) if file.is_file()]
        gone_on = Path(recorded_init(folder)).expanduser() == path
        path = known[0] if known else path if gone_on else _file_of(path)
    with suppress(OSError):
        return digest_file(path)
    return before.sha256


def _file_of(path: Path) -> Path:
    """The file that `init_from` names: of a run's folder its last checkpoint, else its generator."""
    if not path.is_dir():
        return path
    run = RunFolder(path)
    found = [*checkpoints(run)[:1], *([run.generator] if run.generator.is_file() else [])]
    if not found:
        raise RunError(f"{path}: the folder has neither checkpoints nor a generator, so it is no run; {REMEDY}")
    return found[0]


def read_weights(file: Path, settings: TrainSettings) -> Weights:
    """The networks in a generator file or a checkpoint; `settings` are those of the run that takes them.

    Raises RunError for a file that is missing, damaged or something else, in words that follow `init_from = `.
    """
    if not file.is_file():
        raise RunError(f"{file}: there is no such file; {REMEDY}")
    if not wrong_file(file, Format.SAFETENSORS):
        trained = load_generator(file)
        here, there = plain(settings.generator), plain(trained.header.settings.generator)
        differs = ", ".join(differences(here, there, f"{GENERATOR}."))
        return Weights(
            file=file, sha256=trained.digest, networks={GENERATOR: trained.generator.state_dict()}, differs=differs
        )
    if problem := wrong_file(file, Format.TORCH):
        raise RunError(f"{file}: it {problem}; {REMEDY}")
    data = file.read_bytes()
    if not has_its_digest(file, data):
        raise RunError(f"{file}: its bytes do not have the digest in its name, so it is damaged; {REMEDY}")
    held = read_plain(data, f"{file}: it", LOAD, RunError, REMEDY)
    try:
        return Weights(file=file, sha256=digest_bytes(data), networks=read_networks(held))
    except RunError as error:
        raise RunError(f"{file}: it {error}{_what_else(held)}; {REMEDY}; {IMPORT}") from error


def _what_else(held: object) -> str:
    """What a PyTorch file holds that is no checkpoint of ours, as far as its names tell."""
    if not isinstance(held, Mapping):
        return ""
    maps = [value for value in held.values() if isinstance(value, Tensor) and value.dim() == 4]
    kind = "a discriminator, as its last convolution has one output" if maps and len(maps[-1]) == 1 else "a state dict"
    names = ", ".join(ascii(shorten(str(key))) for key in list(held)[:SHOWN])
    return f"; it holds {f'{kind}: ' if maps else ''}{names or 'nothing'}"


def choose(weights: Weights, modules: Mapping[str, nn.Module]) -> tuple[StartedFrom, dict[str, dict[str, Tensor]]]:
    """Which networks come from a file, and their tensors, which fit. Raises RunError with the names that do not."""
    own = {name: module for name, module in modules.items() if next(module.parameters(), None) is not None}
    if GENERATOR not in weights.networks:
        raise RunError(f"{weights.file}: it has no generator, but {', '.join(weights.networks) or 'nothing'}; {REMEDY}")
    taken = {name: weights.networks[name] for name in own if name in weights.networks}
    for name, state in taken.items():
        _check_fit(weights, name, state, own[name].state_dict())
    record = StartedFrom(
        file=weights.file.name,
        sha256=weights.sha256,
        taken={name: len(state) for name, state in taken.items()},
        fresh=tuple(name for name in own if name not in taken),
        left=tuple(name for name in weights.networks if name not in modules),
    )
    return record, taken


def _check_fit(weights: Weights, name: str, given: Mapping[str, Any], own: Mapping[str, Tensor]) -> None:
    """Raise RunError unless the tensors have the names, shapes and kinds of the run's own, and are finite."""
    missing = [key for key in own if key not in given]
    unexpected = [ascii(shorten(str(key))) for key in given if key not in own]
    others = [
        f"{key} {_shape(given[key])}, not {_shape(own[key])}"
        for key in own
        if key in given and _differs(given[key], own[key])
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape or kind": others}
    if any(faults.values()):
        said = "; ".join(
            f"{len(keys)} {what}, such as {', '.join(keys[:SHOWN])}" for what, keys in faults.items() if keys
        )
        settings = (
            f"; its generator was made with other settings (here -> there: {weights.differs})"
            if weights.differs
            else ""
        )
        alone = "" if name == GENERATOR else "; to take the generator alone, give a generator.safetensors"
        raise RunError(
            f"{weights.file}: it does not fit the {name} of this run, of {len(own)} tensors: {said}{settings}{alone}"
        )
    if broken := [key for key in own if not bool(given[key].isfinite().all())]:
        raise RunError(
            f"{weights.file}: {len(broken)} tensors of the {name} have values that are not finite, such as "
            f"{broken[0]}: its training diverged; give another file"
        )


def _differs(given: object, own: Tensor) -> bool:
    return not isinstance(given, Tensor) or _shape(given) != _shape(own)


def _shape(tensor: object) -> str:
    if not isinstance(tensor, Tensor):
        return f"a {type(tensor).__name__}"
    plain_one = tensor.layout is torch.strided and not tensor.is_quantized and tensor.device.type in ("cpu", "cuda")
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}{'' if plain_one else ' no plain tensor'}"
