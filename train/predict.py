"""A trained generator and a store in, translated pictures out: each rounded, and truncated as is published."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from store.files import PARTIAL, digest_file, disk_errors, write_whole
from store.images import write_png
from store.reader import Store
from store.schema import RunError, Split, Stain, picture_name
from train.checkpoint import load_generator
from train.choices import Precision
from train.data import to_signed
from train.device import resolve
from train.folder import RunFolder
from train.methods import check_multiple

ROUNDED, TRUNCATED = "fake", "fake_truncated"
RECORD = "predictions.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What `predictions.json` says. It is written last: a folder that has it is complete."""

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


def predict(folder: RunFolder, store: Store, split: Split, view: str, device: str) -> Predicted:
    """Translate every picture of a split and view, whole, one at a time, in float32 and in evaluation mode.

    Networks with instance norm do not change by evaluation mode, except that spectral norm makes no more iterations.
    A set that was cut off is continued; a complete one of the same generator and store is left alone.
    """
    trained = load_generator(folder.generator)
    wanted = list(_pictures(store, split, view))
    check_multiple(store.side(view), trained.multiple, f"the {view} pictures of {store.path}")
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
        pictures=[name for name, _, _ in wanted],
    )
    target = folder.predictions(split, view)
    if _says(target / RECORD, record):
        return Predicted(folder=target, pictures=len(wanted), complete_before=True)
    _begin(target, record)
    compute = resolve(device, Precision.FP32)
    generator = compute.place(trained.generator)
    for name, pair, index in tqdm(wanted, desc=f"translating {split}/{view}", unit="picture", file=sys.stderr):
        files = (target / ROUNDED / name, target / TRUNCATED / name)
        if not all(file.exists() for file in files):
            signed = translate(generator, store.picture(split, view, Stain.HE, pair, index), compute.device)
            write_png(files[0], rounded(signed))
            write_png(files[1], truncated(signed))
    with disk_errors(target):
        (target / f"{RECORD}{PARTIAL}").replace(target / RECORD)
    return Predicted(folder=target, pictures=len(wanted), complete_before=False)


def _pictures(store: Store, split: Split, view: str) -> Iterator[tuple[str, int, int]]:
    """Name, pair and index of every picture. Raises RunError if there is none."""
    if view not in store.views(split):
        raise RunError(f"{store.path} has no view {view!r} of {split}; it has {', '.join(store.views(split))}")
    pairs, count = store.pairs(split), store.count(view)
    if not pairs:
        held = [f"{name} ({number})" for name, number in store.manifest.counts.items() if number]
        raise RunError(f"{store.path} has no {split} pairs; its splits with pairs are {', '.join(held)}")
    for row, pair in enumerate(pairs):
        for index in range(count):
            yield picture_name(pair.id, index, count), row, index


def _begin(target: Path, record: Predictions) -> None:
    """Make room for a new set, unless this very set was begun before."""
    begun = target / f"{RECORD}{PARTIAL}"
    with disk_errors(target):
        if not _says(begun, record):
            if target.exists():  # pictures of another generator or store, and the scores of those
                shutil.rmtree(target)
            target.mkdir(parents=True)
            write_whole(begun, (json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n").encode())


def _says(file: Path, record: Predictions) -> bool:
    """Whether a record is there and equal to `record`."""
    return file.is_file() and json.loads(file.read_bytes()) == asdict(record)


@torch.inference_mode()
def translate(generator: nn.Module, he: NDArray[np.uint8], device: torch.device) -> Tensor:
    """One picture, u8 [H,W,3], through a generator. Returns signed float32 [H,W,3] on the CPU."""
    signed = to_signed(torch.from_numpy(he).to(device))
    batch = signed.permute(2, 0, 1)[None]  # [1,3,H,W], channels last as it lies
    fake: Tensor = generator(batch)
    return fake[0].permute(1, 2, 0).float().cpu()


def rounded(signed: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] as 8 bits, to the nearest level."""
    levels: NDArray[np.uint8] = _levels(signed).round().to(torch.uint8).numpy()
    return levels


def truncated(signed: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] as 8 bits, cut off: how the ASP repository saves its pictures."""
    levels: NDArray[np.uint8] = _levels(signed).to(torch.uint8).numpy()
    return levels


def _levels(signed: Tensor) -> Tensor:
    """Grey levels, not yet whole; in the order of operations of the ASP repository."""
    return (signed.clamp(-1, 1) + 1) / 2 * 255
