"""A published checkpoint becomes a finished run: `*_net_G.pth` of the pix2pix/CycleGAN, CUT, BCI and ASP repositories.

The file is a state dict with published names, bare or in a wrapping that does not change it (`unwrapping`). The network
is what its tensors are (`shape`); everything else is as published for the method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from store.disk.locks import locked
from store.files import digest_file
from store.foreign.kinds import read_plain
from store.records.facts import RunFacts, read_facts
from store.run_files import RunFolder
from store.schema import RunError, SettingsError
from store.untrusted.text import printable
from train.importing.contents import what_else
from train.importing.publications import PUBLICATIONS, Publication, Published, describe, fitting
from train.importing.shape import shape_of
from train.importing.tensors import fit_tensors
from train.importing.unwrapping import Unwrapped, unwrap
from train.methods.outline import build_outline
from train.methods.recipes import load_recipe
from train.networks.build import make_generator
from train.run.folder import claim, make_folder, software
from train.run.generator_file import FORMAT, GeneratorHeader, load_header, save_generator
from train.settings import AtTest, GeneratorSettings, Network, Norm, TrainSettings

VIEW = "tile"  # published networks translate pictures at the scale at which they were delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the file does not say and its publisher may: pairs seen in training, and micrometres per pixel."""

    pairs_seen: int | None = None
    mpp: float | None = None


def import_generator(
    file: Path,
    method: Published,
    folder: RunFolder,
    stated: Stated,
    tell: Callable[[str], object] = lambda _: None,
) -> GeneratorHeader:
    """Write `folder` as a finished run of `method` with the weights of `file`.

    `tell` gets sentences on what was taken off the state dict, and on what no tensor shows. Raises RunError for a file
    that holds no generator of the method, or several.
    """
    publication = PUBLICATIONS[method]
    unwrapped = _read(file, publication)
    settings = _settings(file, method, unwrapped)
    with _named(f"{file} does not fit the generator of {publication.title}:"):
        fitted = fit_tensors(unwrapped.tensors, settings.generator, build_outline(settings).generator.state_dict())
    generator = make_generator(settings)
    generator.load_state_dict(fitted.tensors)
    for note in (*_taken_off(unwrapped), *fitted.notes, *_unknown(file, method, settings.generator)):
        tell(f"{file.name}: {note}")
    header = GeneratorHeader(
        version=FORMAT,
        method=method,
        settings=settings,
        seal=None,
        step=stated.pairs_seen,
        pairs_seen=stated.pairs_seen,
        mpp={} if stated.mpp is None else {VIEW: stated.mpp},
    )
    parameters = sum(parameter.numel() for parameter in generator.parameters())
    facts = _facts(file, method, stated, parameters)
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


def _read(file: Path, publication: Publication) -> Unwrapped:
    """The generator in a file. Raises RunError, with what the file is, if there is none."""
    remedy = f"give a {publication.files} of the {publication.repository} repository"
    if not file.is_file():
        raise RunError(f"no file {file}; {remedy}")
    with suppress(RunError):
        load_header(file)
        remedy = "it is one of this program already, so give it to --checkpoint as it is"
    load = partial(torch.load, map_location="cpu", weights_only=True)
    held = read_plain(file, file, load, RunError, remedy)
    with _named(f"{file}"):
        if unwrapped := unwrap(held, file.stat().st_size):
            return unwrapped
        raise RunError(what_else(held, publication))


def _settings(file: Path, method: Published, unwrapped: Unwrapped) -> TrainSettings:
    """The settings of the method as published, with the network that is in the file. Raises RunError."""
    recipe = load_recipe([], [f"method={method}"])
    with _named(f"{file}"):
        shape = shape_of(unwrapped.network, unwrapped.tensors, recipe.generator)
        _check_method(method, shape)
        return replace(recipe, generator=replace(shape, at_test=_mode(shape, recipe.generator)))


def _check_method(method: Published, shape: GeneratorSettings) -> None:
    """Refuse a generator of another publication, with the one that it is of. Raises RunError."""
    fits = fitting(shape)
    if method not in fits:
        advice = f"import it with {' or '.join(f'--as {fit}' for fit in fits)}" if fits else "there is none such here"
        raise RunError(f"is not a generator of {PUBLICATIONS[method].title}, it holds {describe(shape)}: {advice}")


@contextmanager
def _named(start: str) -> Iterator[None]:
    """Put the name of a file before what is wrong in it, where names of its tensors may stand."""
    try:
        yield
    except SettingsError as error:
        raise RunError(f"{start} holds a network of a size that there is not here: {error}") from error
    except RunError as error:
        raise RunError(f"{start} {printable(str(error))}") from error


def _mode(shape: GeneratorSettings, published: GeneratorSettings) -> AtTest:
    """The mode of the published test scripts, which do not leave training where that makes a difference."""
    return AtTest.TRAINING if shape.norm is Norm.BATCH or shape.dropout else published.at_test


def _taken_off(unwrapped: Unwrapped) -> list[str]:
    removed = ", ".join(unwrapped.removed)
    return [f"the generator was found after taking off {removed}"] if removed else []


def _unknown(file: Path, method: Published, shape: GeneratorSettings) -> list[str]:
    """What nothing in the file tells, and how it is taken."""
    notes = []
    if shape.network is Network.UNET:
        has = "has dropout" if shape.dropout else "has no dropout"
        notes.append(f"no tensor tells whether a U-Net has dropout: it {has}, as published for {method}")
    if shape.at_test is AtTest.TRAINING and (shape.norm is Norm.BATCH or shape.dropout):
        notes.append("it translates as the published test script does, with batch norm and dropout as in training")
    if method is Published.CYCLEGAN:
        ways = {"_net_G_A": "from the publisher's A to B", "_net_G_B": "from the publisher's B to A"}
        way = next((way for end, way in ways.items() if file.stem.endswith(end)), "one way, and nothing tells which")
        notes.append(f"it translates {way}; here it is taken to turn H&E into IHC")
    return notes


def _facts(file: Path, method: Published, stated: Stated, parameters: int) -> RunFacts:
    return RunFacts(
        store=None,
        seal=None,
        method=method,
        synthetic=False,
        upscaler=f"imported from {file.name} ({digest_file(file)[:12]})",
        pairs=None,
        pairs_seen=stated.pairs_seen,
        device=None,
        precision=None,
        parameters={"generator": parameters},
        software=software(),
    )
