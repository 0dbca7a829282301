"""`generator.safetensors`: a trained generator with a header from which it can be built and used alone.

The header has the sha256 of the tensors and of itself. Settings that change no number are not in it, so that equal
results are equal files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from store.files import (
    DIGEST,
    check_record,
    digest_bytes,
    digest_tree,
    disk_errors,
    unsealed,
    with_current_names,
    write_whole,
)
from store.foreign.kinds import Format, wrong_file
from store.schema import FORBID_UNKNOWN, RunError, SchemaError
from store.settings import plain, validate
from store.untrusted.documents import DocumentError, parse_object, shorten
from train.methods.outline import build_outline
from train.methods.registry import build_method
from train.run.folder import FREE
from train.settings import TrainSettings

FORMAT = 4  # version 3 did not say what it was trained at, nor from which weights; version 2 had no digests;
READABLE = (1, 2, 3, 4)  # version 1 called `pairs_seen` `draws`, and "" and 0 stood for unknown
DIGESTED = 3  # the first version with digests
HEADER = "magstain"
TENSORS = "tensors"  # the key of their digest in the header
REMEDY = "bring back a copy; or, if it is the result of a run, delete this file and run the same `fit` again"
WANTED = "a generator is a .safetensors file, such as the generator.safetensors of a finished run"
NOT_FINITE = "its training diverged: train it again from the last good checkpoint, or use another generator"


@dataclass(frozen=True, kw_only=True)
class GeneratorHeader:
    """What a generator file says of itself. For an imported one the store's seal, steps and pairs seen may be None.

    It was trained on pictures of `view_side` px, None where that is not known, of as many micrometres per pixel as
    `mpp` has for each view; a view whose scale is not known is not there. `started_from` is the sha256 of the file
    that training took its first weights from, None where it began with fresh ones.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    version: int
    method: str
    settings: TrainSettings
    seal: str | None
    step: int | None
    pairs_seen: int | None
    view_side: int | None = None
    mpp: dict[str, float] = field(default_factory=dict)
    started_from: str | None = None

    def __post_init__(self) -> None:
        if self.view_side is not None and self.view_side < 1:
            raise SchemaError(f"view_side = {self.view_side}: must be at least 1 px")
        for view, mpp in self.mpp.items():
            if view not in self.settings.data.views or not 0 < mpp < inf:
                raise SchemaError(
                    f"mpp = {mpp:g} of view {shorten(view)!a}: a number above 0 of one of "
                    f"{', '.join(map(shorten, self.settings.data.views))}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained generator in evaluation mode; `digest` is the sha256 of its file.

    The sides of its pictures, px, are multiples of `multiple`.
    """

    generator: nn.Module
    multiple: int
    header: GeneratorHeader
    digest: str


def save_generator(path: Path, generator: nn.Module, header: GeneratorHeader) -> None:
    """Write a generator with its header, completely or not at all. Raises RunError if a tensor is not finite."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    if broken := first_not_finite(tensors):
        raise RunError(f"{path}: {broken} of the generator is not finite, so it is not written; {NOT_FINITE}")
    tree = plain(replace(header, settings=settled(header.settings))) | {TENSORS: digest_tensors(tensors)}
    with disk_errors(path):
        write_whole(path, save(tensors, {HEADER: json.dumps(tree | {DIGEST: digest_tree(tree)})}))


def load_generator(path: Path) -> Trained:
    """A generator, built from the header of its file.

    Raises RunError if the file is missing, damaged or foreign, or if a parameter or buffer is not finite.
    """
    header, tensors, digest = _read(path)
    _check_tensors(path, header.settings, tensors)
    method = build_method(_without_others(header.settings))
    try:
        method.generator.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(f"{path} does not fit the network that its header names: {error}") from error
    return Trained(generator=method.generator.eval(), multiple=method.multiple, header=header, digest=digest)


def _check_tensors(path: Path, settings: TrainSettings, tensors: Mapping[str, Tensor]) -> None:
    """Compare a header with the tensors beside it before memory is taken for what it asks for. Raises RunError.

    Tensors that are not finite are refused too: they translate every picture to nothing.
    """
    outline = build_outline(settings).generator.state_dict()
    own, found = (
        {name: f"{tuple(t.shape)} {t.dtype}".replace("torch.", "") for name, t in state.items()}
        for state in (outline, tensors)
    )
    if wrong := sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name)):
        name = wrong[0]
        raise RunError(
            f"{path} does not fit the network that its header names: {len(wrong)} of {len(own)} tensors differ, "
            f"such as {shorten(name)!a}, {own.get(name, 'none')} in the network and {found.get(name, 'none')} in "
            f"the file; {REMEDY}"
        )
    if broken := [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]:
        raise RunError(
            f"{path} has {len(broken)} tensors with values that are not finite, such as {broken[0]}: its training "
            "diverged; give another generator"
        )


def _without_others(settings: TrainSettings) -> TrainSettings:
    """The settings of a method whose generator is used alone: the other networks are as small as they can be."""
    small = replace(settings.discriminator, base=1, layers=1)
    return replace(settings, discriminator=small, contrast=replace(settings.contrast, width=1))


def load_header(path: Path) -> GeneratorHeader:
    """What a generator file says of itself. Raises RunError as `load_generator` does."""
    return _read(path)[0]


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor, parameter or buffer, that holds NaN or an infinity; None if there is none."""
    return next((name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())), None)


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of names, dtypes, shapes and bytes of tensors on the CPU, in the order of their names."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha256.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def settled(settings: TrainSettings) -> TrainSettings:
    """The settings with those that change no number at their defaults."""
    tree, defaults = plain(settings), plain(TrainSettings())
    for key in FREE:
        *groups, name = key.split(".")
        here, there = tree, defaults
        for group in groups:
            here, there = here[group], there[group]
        here[name] = there[name]
    return validate(TrainSettings, tree)


def _read(path: Path) -> tuple[GeneratorHeader, dict[str, Tensor], str]:
    """Header, tensors and the sha256 of the bytes that hold both."""
    if not path.is_file():
        raise RunError(f"no generator {path}: the run is missing or not finished; run its `fit` to the end")
    if path.suffix == ".pt":
        raise RunError(
            f"{path} is a checkpoint, from which a run resumes, not a generator; give a .safetensors file, such as "
            "the generator.safetensors of a finished run"
        )
    if problem := wrong_file(path, Format.SAFETENSORS):
        raise RunError(f"{path} {problem}; {REMEDY if path.suffix == '.safetensors' else WANTED}")
    try:
        data = path.read_bytes()
        tensors = load(data)
        metadata = parse_object(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}
    except KeyError as error:
        raise RunError(f"{path} has tensors of a kind that PyTorch has not ({error}); {REMEDY}") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}); {REMEDY}") from error
    if HEADER not in metadata:
        raise RunError(f"{path} is not a generator of this program: its header has no {HEADER!r}")
    return _header_of(path, metadata[HEADER], tensors), tensors, digest_bytes(data)


def _header_of(path: Path, text: str, tensors: Mapping[str, Tensor]) -> GeneratorHeader:
    """The header, which is compared with its digest and the tensors with theirs. Raises RunError."""
    try:
        tree = parse_object(text)
    except DocumentError as error:
        raise RunError(f"{path} is damaged (its header is no JSON object: {error}); {REMEDY}") from error
    if tree.get("version") not in READABLE:
        raise RunError(
            f"{path} has version {shorten(repr(tree.get('version')))}, this program reads {FORMAT}; update the program"
        )
    digested = tree["version"] >= DIGESTED
    if digested and DIGEST not in tree:
        raise RunError(f"{path} is damaged: its header has no {DIGEST}; {REMEDY}")
    tree = unsealed(tree, path, REMEDY)
    if digested and tree.pop(TENSORS, None) != digest_tensors(tensors):
        raise RunError(f"{path} is damaged: its tensors do not have the digest in its header; {REMEDY}")
    tree = with_current_names(tree, unknown=("seal", "step", "pairs_seen"))
    return check_record(GeneratorHeader, tree, path, REMEDY)
