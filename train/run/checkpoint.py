"""Everything a run needs to go on, and the generator as a file that says itself what it is.

A checkpoint is one file of plain tensors and values, named `<step>-<digest of its bytes>.pt`: written beside its place,
synced and renamed, so a name that is there is whole, and damage that came later is seen. Nothing else is unpickled. It
holds no random states: all randomness of a step is a function of (seed, step).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from store.files import disk_errors, with_current_names, write_whole
from store.run_files import RunFolder
from store.schema import FORBID_UNKNOWN, RunError
from store.settings import plain, validate
from train.methods.registry import build_method
from train.run.reporting import DIVERGED
from train.settings import TrainSettings

FORMAT = 2  # of generator files; of version 1, `pairs_seen` was called `draws`, and "" and 0 meant unknown
READABLE = (1, 2)
CHECKPOINT_FORMAT = 2
KEPT = 2  # checkpoints: the newest, and one to fall back on
DIGITS = 16  # of the digest in a name
HEADER = "magstain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a run is: steps done, seconds spent on them, and the terms that `metrics.jsonl` has not told yet."""

    step: int
    seconds: float
    terms: list[dict[str, float]]


def save_checkpoint(
    folder: RunFolder, modules: Mapping[str, nn.Module], optimisers: dict[str, Optimizer], position: Position, keep: int
) -> Path:
    """Write all networks, optimisers and the position; of older ones one stays, and those of multiples of `keep`."""
    buffer = io.BytesIO()
    torch.save(
        {
            "format": CHECKPOINT_FORMAT,
            "step": position.step,
            "seconds": position.seconds,
            "terms": position.terms,
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "optimisers": {player: optimiser.state_dict() for player, optimiser in optimisers.items()},
        },
        buffer,
    )
    data = buffer.getvalue()
    name = f"{position.step:08d}-{hashlib.sha256(data).hexdigest()[:DIGITS]}.pt"
    with disk_errors(folder.checkpoints):
        folder.checkpoints.mkdir(exist_ok=True)
        write_whole(folder.checkpoints / name, data)
        for old in checkpoints(folder)[KEPT:]:
            if not keep or int(old.name.partition("-")[0]) % keep:
                old.unlink()
    return folder.checkpoints / name


def read_newest(folder: RunFolder) -> tuple[bytes, list[str]]:
    """The bytes of the newest checkpoint that is whole, none if there is no checkpoint yet.

    Also returns a warning for each damaged file that was passed over. RunError if all are damaged.
    """
    damaged: list[Path] = []
    for file in checkpoints(folder):
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest()[:DIGITS] == file.stem.partition("-")[2]:
            return data, [_set_aside(file) for file in damaged]
        damaged.append(file)
    if damaged:
        raise RunError(
            f"no checkpoint of {folder.path} is whole: the bytes of {', '.join(file.name for file in damaged)} do not "
            "give the digest in the name; bring back a copy, or delete the folder to start again"
        )
    return b"", []


def restore(data: bytes, modules: Mapping[str, nn.Module], optimisers: dict[str, Optimizer]) -> Position:
    """Bring everything to a checkpoint, given as its bytes; without any, to the start, where it is already."""
    if not data:
        return Position(step=0, seconds=0.0, terms=[])
    state = torch.load(io.BytesIO(data), "cpu", weights_only=True)
    if state["format"] != CHECKPOINT_FORMAT:
        raise RunError(
            f"the checkpoint has format {state['format']}, this program reads {CHECKPOINT_FORMAT}; start a new run"
        )
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    for player, optimiser in optimisers.items():
        optimiser.load_state_dict(state["optimisers"][player])
    return Position(step=state["step"], seconds=state["seconds"], terms=state["terms"])


def check_finite(modules: Mapping[str, nn.Module], step: int) -> None:
    """Refuse to save networks that the last step broke: its own terms were taken before it moved. Raises RunError."""
    for name, module in modules.items():
        for parameter, values in module.named_parameters():
            if not bool(values.isfinite().all()):
                raise RunError(f"{parameter} of the {name} is not finite after step {step}; {DIVERGED}")


def _set_aside(file: Path) -> str:
    """Take a damaged checkpoint out of the count, and say so."""
    with disk_errors(file):
        aside = file.rename(file.with_suffix(".damaged"))
    return f"{file} is damaged: its bytes do not give the digest in its name; it is now {aside.name}"


def checkpoints(folder: RunFolder) -> list[Path]:
    """Checkpoints, newest first."""
    return sorted(folder.checkpoints.glob("*-*.pt"), reverse=True)


@dataclass(frozen=True, kw_only=True)
class GeneratorHeader:
    """What a generator file says of itself; of an imported one, seal of the store, steps and pairs seen may be None."""

    __pydantic_config__ = FORBID_UNKNOWN

    version: int
    method: str
    settings: TrainSettings
    seal: str | None
    step: int | None
    pairs_seen: int | None


def save_generator(path: Path, generator: nn.Module, header: GeneratorHeader) -> None:
    """Write a generator with its header, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    with disk_errors(path):
        write_whole(path, save(tensors, {HEADER: json.dumps(plain(header))}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained generator in evaluation mode; sides of its pictures divide by `multiple`."""

    generator: nn.Module
    multiple: int
    header: GeneratorHeader


def load_generator(path: Path) -> Trained:
    """A generator built from its own header. Raises RunError if the file is missing, damaged or foreign."""
    header, tensors = _read_generator(path)
    method = build_method(header.settings)
    generator = method.modules()["generator"]
    try:
        generator.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(f"{path} does not fit the network that its header names: {error}") from error
    return Trained(generator=generator.eval(), multiple=method.multiple, header=header)


def load_header(path: Path) -> GeneratorHeader:
    """What a generator file says of itself. Raises RunError as `load_generator` does."""
    return _read_generator(path)[0]


def _read_generator(path: Path) -> tuple[GeneratorHeader, dict[str, Tensor]]:
    if not path.is_file():
        raise RunError(f"no generator {path}: the run is missing or not finished; run its `fit` to the end")
    if path.suffix == ".pt":
        raise RunError(
            f"{path} is what a run goes on from, not a generator; give a .safetensors file, such as the "
            "generator.safetensors of a finished run"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is damaged ({error}); delete it and run the same `fit` again") from error
    if HEADER not in metadata:
        raise RunError(f"{path} is not a generator of this program: its header has no {HEADER!r}")
    tree = json.loads(metadata[HEADER])
    if tree.get("version") not in READABLE:
        raise RunError(f"{path} has version {tree.get('version')}, this program reads {FORMAT}; update the program")
    tree = with_current_names(tree, unknown=("seal", "step", "pairs_seen"))
    return validate(GeneratorHeader, tree), tensors
