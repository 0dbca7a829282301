"""Published ASP generators: a `*_net_G.pth` of the ASP repository becomes a finished run.

The file is a bare state dict of the ResNet generator with spectral norm; its names are those of `published_names`.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from store.files import digest_file, locked
from store.records.facts import RunFacts, read_facts
from store.run_files import RunFolder
from store.schema import RunError
from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.networks.resnet import ResnetGenerator, published_names
from train.run.folder import claim, make_folder, software
from train.run.generator_file import FORMAT, GeneratorHeader, save_generator
from train.settings import GeneratorSettings

BLOCK = re.compile(r"model\.(\d+)\.conv_block\.1\.weight_orig")


def import_generator(file: Path, folder: RunFolder, pairs_seen: int | None) -> GeneratorHeader:
    """Write `folder` as a finished ASP run with the weights of `file`; `pairs_seen` may be unknown (None).

    Base channels and residual blocks follow from the tensors. Raises RunError for a file that is not such a state dict.
    """
    state = _read(file)
    recipe = load_recipe([], ["method=asp"])
    settings = replace(recipe, generator=_shape(file, state, recipe.generator))
    names = published_names(settings.generator)
    generator = build_method(settings).generator
    assert isinstance(generator, ResnetGenerator)
    _check_names(file, state, names)
    try:
        generator.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})
    except RuntimeError as error:
        raise RunError(f"{file} does not fit the generator of ASP: {error}") from error
    header = GeneratorHeader(
        version=FORMAT, method="asp", settings=settings, seal=None, step=pairs_seen, pairs_seen=pairs_seen
    )
    facts = RunFacts(
        store=None,
        seal=None,
        method="asp",
        synthetic=False,
        upscaler=f"imported from {file.name} ({digest_file(file)[:12]})",
        pairs=None,
        pairs_seen=pairs_seen,
        device=None,
        precision=None,
        parameters={"generator": sum(parameter.numel() for parameter in generator.parameters())},
        software=software(),
    )
    make_folder(folder)
    with locked(folder.lock, f"the run {folder.path}"):
        if folder.generator.exists():
            raise RunError(f"{folder.path} already has a generator; choose another folder with --run")
        if not folder.facts.exists():
            claim(folder, settings, facts)
        elif read_facts(folder) != facts:  # else an import of the same file was killed here
            raise RunError(f"{folder.path} is another run; choose another folder with --run")
        save_generator(folder.generator, generator, header)
    return header


def _read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise RunError(f"no file {file}; give a *_net_G.pth of the ASP repository")
    try:
        state = torch.load(file, "cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise RunError(
            f"{file} cannot be read as plain tensors ({str(error).splitlines()[0]}); give a *_net_G.pth of the ASP "
            "repository, as downloaded"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise RunError(f"{file} is not a bare state dict; give a *_net_G.pth of the ASP repository")
    return dict(state)


def _shape(file: Path, state: Mapping[str, Tensor], published: GeneratorSettings) -> GeneratorSettings:
    """The settings of the network that has these tensors."""
    blocks = sum(1 for name in state if BLOCK.fullmatch(name))
    if "model.1.weight_orig" not in state or blocks < 5:
        raise RunError(
            f"{file} is not a generator of the ASP repository: a ResNet with spectral norm has model.1.weight_orig and "
            f"model.12.conv_block.1.weight_orig; this has {', '.join(list(state)[:3])}, …"
        )
    return replace(published, base=state["model.1.weight_orig"].shape[0], blocks=blocks)


def _check_names(file: Path, state: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Refuse tensors that are missing, and others than the network's and the fixed blur filters. Raises RunError."""
    missing = [name for name in names.values() if name not in state]
    extra = [name for name in state if name not in set(names.values()) and not name.endswith(".filt")]
    if missing or extra:
        raise RunError(
            f"{file} does not fit the generator of ASP; missing: {', '.join(missing[:3]) or 'none'}; "
            f"unexpected: {', '.join(extra[:3]) or 'none'}"
        )
