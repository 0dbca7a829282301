"""`generator.safetensors`: a trained generator with a header from which it can be built and used alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from store.files import disk_errors, with_current_names, write_whole
from store.schema import FORBID_UNKNOWN, RunError
from store.settings import plain, validate
from train.methods.registry import build_method
from train.settings import TrainSettings

FORMAT = 2  # version 1 called `pairs_seen` `draws`, and "" and 0 stood for unknown
READABLE = (1, 2)
HEADER = "magstain"


@dataclass(frozen=True, kw_only=True)
class GeneratorHeader:
    """What a generator file says of itself. For an imported one the store's seal, steps and pairs seen may be None."""

    __pydantic_config__ = FORBID_UNKNOWN

    version: int
    method: str
    settings: TrainSettings
    seal: str | None
    step: int | None
    pairs_seen: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained generator in evaluation mode; the sides of its pictures, px, are multiples of `multiple`."""

    generator: nn.Module
    multiple: int
    header: GeneratorHeader


def save_generator(path: Path, generator: nn.Module, header: GeneratorHeader) -> None:
    """Write a generator with its header, completely or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    with disk_errors(path):
        write_whole(path, save(tensors, {HEADER: json.dumps(plain(header))}))


def load_generator(path: Path) -> Trained:
    """A generator, built from the header of its file. Raises RunError if the file is missing, damaged or foreign."""
    header, tensors = _read(path)
    method = build_method(header.settings)
    try:
        method.generator.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(f"{path} does not fit the network that its header names: {error}") from error
    return Trained(generator=method.generator.eval(), multiple=method.multiple, header=header)


def load_header(path: Path) -> GeneratorHeader:
    """What a generator file says of itself. Raises RunError as `load_generator` does."""
    return _read(path)[0]


def _read(path: Path) -> tuple[GeneratorHeader, dict[str, Tensor]]:
    if not path.is_file():
        raise RunError(f"no generator {path}: the run is missing or not finished; run its `fit` to the end")
    if path.suffix == ".pt":
        raise RunError(
            f"{path} is a checkpoint, from which a run resumes, not a generator; give a .safetensors file, such as "
            "the generator.safetensors of a finished run"
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
