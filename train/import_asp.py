"""Published ASP generators: a `*_net_G.pth` of the ASP repository becomes a finished run.

The file is a state dict of the ResNet generator with spectral norm, whose names are those of `published_names`, bare or
in a wrapping that does not change it (`unwrapping`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from store.disk.locks import locked
from store.files import digest_file
from store.foreign.kinds import read_plain
from store.records.facts import RunFacts, read_facts
from store.run_files import RunFolder
from store.schema import RunError
from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.networks.resnet import ResnetGenerator, published_names
from train.run.folder import claim, make_folder, software
from train.run.generator_file import FORMAT, GeneratorHeader, save_generator
from train.settings import GeneratorSettings
from train.unwrapping import unwrap

STEM = "model.1.weight_orig"
BLOCK = re.compile(r"model\.(\d+)\.conv_block\.1\.weight_orig")


def import_generator(
    file: Path, folder: RunFolder, pairs_seen: int | None, tell: Callable[[str], object] = lambda _: None
) -> GeneratorHeader:
    """Write `folder` as a finished ASP run with the weights of `file`; `pairs_seen` may be unknown (None).

    Base channels and residual blocks follow from the tensors; `tell` gets a sentence on what was taken off the state
    dict. Raises RunError for a file that holds no such state dict, or several.
    """
    state = _read(file, tell)
    recipe = load_recipe([], ["method=asp"])
    settings = replace(recipe, generator=_shape(file, state, recipe.generator))
    names = published_names(settings.generator)
    generator = build_method(settings).generator
    assert isinstance(generator, ResnetGenerator)
    _check_names(file, state, names)
    _check_tensors(file, state, names, generator)
    generator.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})
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


def _read(file: Path, tell: Callable[[str], object]) -> dict[str, Tensor]:
    if not file.is_file():
        raise RunError(f"no file {file}; give a *_net_G.pth of the ASP repository")
    load = partial(torch.load, map_location="cpu", weights_only=True)
    held = read_plain(file, file, load, RunError, "give a *_net_G.pth of the ASP repository")
    try:
        unwrapped = unwrap(held, STEM, file.stat().st_size)
    except RunError as error:
        raise RunError(f"{file} {error}") from error
    if unwrapped.removed:
        tell(f"{file.name}: the generator was found after taking off {', '.join(unwrapped.removed)}")
    return unwrapped.tensors


def _shape(file: Path, state: Mapping[str, Tensor], published: GeneratorSettings) -> GeneratorSettings:
    """The settings of the network that has these tensors, which are as large as it. Raises RunError."""
    blocks = [name for name in state if BLOCK.fullmatch(name)]
    if len(blocks) < 5:
        raise RunError(
            f"{file} is not a generator of the ASP repository: a ResNet with spectral norm has {STEM} and "
            f"model.12.conv_block.1.weight_orig; this has {', '.join(list(state)[:3])}, …"
        )
    base = state[STEM].shape[0] if state[STEM].dim() else 0
    wide = 4 * base
    if not base or any(state[name].shape != (wide, wide, 3, 3) for name in blocks):
        raise RunError(
            f"{file} does not fit the generator of ASP: with {base} base channels ({STEM}) each residual block has "
            f"{[wide, wide, 3, 3]}, which {sum(state[name].shape != (wide, wide, 3, 3) for name in blocks)} have not"
        )
    return replace(published, base=base, blocks=len(blocks))


def _check_names(file: Path, state: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Refuse tensors that are missing, and others than the network's and the fixed blur filters. Raises RunError."""
    missing = [name for name in names.values() if name not in state]
    extra = [name for name in state if name not in set(names.values()) and not name.endswith(".filt")]
    if missing or extra:
        raise RunError(
            f"{file} does not fit the generator of ASP; missing: {', '.join(missing[:3]) or 'none'}; "
            f"unexpected: {', '.join(extra[:3]) or 'none'}"
        )


def _check_tensors(file: Path, state: Mapping[str, Tensor], names: Mapping[str, str], generator: nn.Module) -> None:
    """Refuse tensors of other shapes than the network's, and values that are no finite numbers. Raises RunError."""
    own = generator.state_dict()
    if wrong := [ours for ours, theirs in names.items() if own[ours].shape != state[theirs].shape]:
        given, right = list(state[names[wrong[0]]].shape), list(own[wrong[0]].shape)
        raise RunError(
            f"{file} does not fit the generator of ASP: {len(wrong)} tensors have another shape, such as "
            f"{names[wrong[0]]}, which is {given}, not {right}"
        )
    odd = [name for name in names.values() if not state[name].is_floating_point() or not _is_finite(state[name])]
    if odd:
        raise RunError(
            f"{file} has {len(odd)} tensors whose values are not finite, or no numbers with a point, such as {odd[0]}: "
            "give another generator"
        )


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.float().isfinite().all())  # kinds of 8 bits cannot be asked themselves
