"""A trained generator and a store in, translated pictures out: each rounded, and truncated as is published."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from store.files import PARTIAL, digest_file, disk_errors, sync, write_whole
from store.images import write_png
from store.location import is_remote, locate
from store.reader import Store
from store.schema import Interrupted, RunError, Split, Stain, picture_name
from store.signals import stop_requests
from train.checkpoint import load_generator
from train.choices import AtTest, Precision
from train.data import to_signed
from train.device import resolve
from train.folder import RESULT, RunFolder, read_facts
from train.methods import check_multiple

ROUNDED, TRUNCATED = "fake", "fake_truncated"
RECORD = "predictions.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What `predictions.json` says; `generator` is the sha256 of its file, `pictures` are in the order of the store."""

    method: str
    seal: str
    split: str
    view: str
    draws: int
    step: int
    upscaler: str
    synthetic: bool
    generator: str
    pictures: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Where the pictures of a split and view lie, how many there are, and whether they had been there before."""

    folder: Path
    pictures: int
    complete_before: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A picture to translate: its place in the store, and the name of both files."""

    name: str
    pair: int
    index: int


def place_of(run: Path | None, checkpoint: Path | None) -> RunFolder:
    """Where a generator lies and its pictures go: a run's folder, or that of a file, or one beside a file by its name.

    Raises RunError unless exactly one of the two is named.
    """
    if (run is None) == (checkpoint is None):
        raise RunError("which generator? Name a run with --run, or a generator file with --checkpoint, not both")
    if run is not None:
        return RunFolder(run)
    assert checkpoint is not None
    if checkpoint.name == RESULT:
        return RunFolder(checkpoint.parent)
    return RunFolder(checkpoint.with_suffix(""), (checkpoint,))


def open_own_store(folder: RunFolder) -> Store:
    """The store that a run was trained on, from where it was then. RunError if it moved or is another one now."""
    if folder.generator.exists() and not folder.facts.exists():
        raise RunError(f"{folder.generator} lies in no run's folder; say with --store which store to translate")
    facts = read_facts(folder)
    if not facts.store:
        raise RunError(f"{folder.path} was imported, not trained on a store; say with --store which one to translate")
    if not is_remote(locate(facts.store)) and not Path(facts.store).exists():
        raise RunError(f"{folder.path} was trained on {facts.store}, which is not there; say --store where it is now")
    store = Store.open(facts.store)
    if store.manifest.seal != facts.seal:
        raise RunError(
            f"{folder.path} was trained on a store with seal {facts.seal[:12]}, but {facts.store} now has seal "
            f"{store.manifest.seal[:12]}; name that store with --store to translate it all the same"
        )
    return store


def predict(folder: RunFolder, store: Store, split: Split, view: str, device: str) -> Predicted:
    """Translate every picture of a split and view, whole, one at a time, in float32.

    Spectral norm makes no more iterations; batch norm and dropout are as `generator.at_test` says, the latter seeded by
    the picture's place in the store.
    The set grows in a folder beside its place and is renamed when it is complete, in place of an older one. A set that
    was cut off is continued; a complete one of the same generator and store is left alone.
    """
    trained = load_generator(folder.generator)
    targets = list(plan_targets(store, split, view))
    check_multiple(store.side(view), trained.multiple, f"the {view} pictures of {store.address}")
    record = Predictions(
        method=trained.header.method,
        seal=store.manifest.seal,
        split=split,
        view=view,
        draws=trained.header.draws,
        step=trained.header.step,
        upscaler=store.manifest.upscaler.name,
        synthetic=store.manifest.synthetic,
        generator=digest_file(folder.generator),
        pictures=[target.name for target in targets],
    )
    place = folder.predictions(split, view)
    files = [file for target in targets for file in _files(place, target)]
    if _says(place / RECORD, record) and all(file.is_file() for file in files):
        return Predicted(folder=place, pictures=len(targets), complete_before=True)
    beside = place.with_name(place.name + PARTIAL)
    _begin(beside, record)
    compute = resolve(device, Precision.FP32)
    compute.settle()
    generator = compute.place(trained.generator)
    progress_bar = tqdm(targets, desc=f"translating {split}/{view}", unit="picture", file=sys.stderr)
    mode = at_test(generator, trained.header.settings.generator.at_test)
    with stop_requests(lambda text: tqdm.write(text, file=sys.stderr)) as stop, progress_bar as bar, mode:
        for place_in_store, target in enumerate(bar):
            whole, cut = _files(beside, target)
            if not (whole.is_file() and cut.is_file()):
                he = store.picture(split, view, Stain.HE, target.pair, target.index)
                signed = translate(generator, he, compute.device, seed=place_in_store)
                write_png(whole, rounded(signed))
                write_png(cut, truncated(signed))
            if stop.requested:
                raise Interrupted(f"{beside} has the pictures so far; run the same again")
    _finish(beside, place)
    return Predicted(folder=place, pictures=len(targets), complete_before=False)


def plan_targets(store: Store, split: Split, view: str) -> Iterator[Target]:
    """Every picture of a split and view. Raises RunError if there is none."""
    if view not in store.views(split):
        raise RunError(f"{store.address} has no view {view!r} of {split}; it has {', '.join(store.views(split))}")
    pairs, count = store.pairs(split), store.count(view)
    if not pairs:
        held = [f"{name} ({number})" for name, number in store.manifest.counts.items() if number]
        raise RunError(f"{store.address} has no {split} pairs; its splits with pairs are {', '.join(held)}")
    for row, pair in enumerate(pairs):
        for index in range(count):
            yield Target(name=picture_name(pair.id, index, count), pair=row, index=index)


def _files(folder: Path, target: Target) -> tuple[Path, Path]:
    """The rounded and the truncated file of a picture."""
    return folder / ROUNDED / target.name, folder / TRUNCATED / target.name


def _begin(beside: Path, record: Predictions) -> None:
    """Make room for a new set, unless this very set was begun before."""
    with disk_errors(beside):
        if not _says(beside / RECORD, record):
            if beside.exists():
                shutil.rmtree(beside)
            beside.mkdir(parents=True)
            write_whole(beside / RECORD, (json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n").encode())


def _finish(beside: Path, place: Path) -> None:
    """Put a complete set in its place; an older one goes, and with it the scores of its pictures."""
    with disk_errors(place):
        if place.exists():
            shutil.rmtree(place)
        beside.rename(place)
        sync(place.parent)


def _says(file: Path, record: Predictions) -> bool:
    """Whether a record is there, whole, and equal to `record`."""
    try:
        return bool(json.loads(file.read_bytes()) == asdict(record))
    except (OSError, ValueError):
        return False


@contextmanager
def at_test(network: nn.Module, how: AtTest) -> Iterator[None]:
    """A network as it translates: in evaluation mode, or with batch norm and dropout still as in training.

    Batch norm then takes the statistics of each picture and leaves its running ones alone. Training mode afterwards.
    """
    network.eval()
    living = [m for m in network.modules() if how is AtTest.TRAINING and isinstance(m, nn.BatchNorm2d | nn.Dropout)]
    norms = [module for module in living if isinstance(module, nn.BatchNorm2d)]
    for module in living:
        module.train()
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        network.train()


@torch.inference_mode()
def translate(generator: nn.Module, he: NDArray[np.uint8], device: torch.device, *, seed: int = 0) -> Tensor:
    """One picture, u8 [H,W,3], through a generator, `seed` for dropout. Returns signed [H,W,3] on the device."""
    signed = to_signed(torch.from_numpy(he).to(device))
    batch = signed.permute(2, 0, 1)[None]  # [1,3,H,W], channels last as it lies
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        fake: Tensor = generator(batch)
    return fake[0].permute(1, 2, 0)


def rounded(signed: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] as 8 bits, to the nearest level."""
    levels: NDArray[np.uint8] = _levels(signed).round().to(torch.uint8).cpu().numpy()
    return levels


def truncated(signed: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] as 8 bits, cut off: how the ASP repository saves its pictures."""
    levels: NDArray[np.uint8] = _levels(signed).to(torch.uint8).cpu().numpy()
    return levels


def _levels(signed: Tensor) -> Tensor:
    """Grey levels, not yet whole; in the order of operations of the ASP repository."""
    return (signed.float().clamp(-1, 1) + 1) / 2 * 255
