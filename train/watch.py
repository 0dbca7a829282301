"""What a person sees of a training run: messages, `metrics.jsonl`, contact sheets of fixed pictures."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from store.files import disk_errors, write_whole
from store.reader import Store
from store.schema import RunError, Split, Stain
from store.sheet import Row, draw_sheet
from train.choices import AtTest
from train.device import Compute
from train.parallel import mean_of_all
from train.predict import at_test, translate

EVERY = 25  # steps between two looks at the terms: each look waits for the device
DIVERGED = (
    "nothing was saved of it: begin a new run with --set precision=fp32, a lower optimiser.learning_rate or "
    "optimiser.clip=1"
)
SHOWN = 4  # pictures of a contact sheet
SHEET_SIDE = 256  # px


@dataclass(slots=True)
class Window:
    """The terms since the last line of `metrics.jsonl`: `fresh` ones still on the device, so that no step waits."""

    seen: list[dict[str, float]] = field(default_factory=list)
    fresh: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """Keep a step's terms."""
        self.fresh.append((step, terms))

    def look(self) -> list[dict[str, float]]:
        """Wait for the device and see all terms, each the mean of all processes. RunError if one is not finite."""
        names = list(self.fresh[0][1]) if self.fresh else []
        rows = [torch.stack([terms[name].double() for name in names]) for _, terms in self.fresh]
        table = mean_of_all(torch.stack(rows)).tolist() if rows else []
        for (step, _), row in zip(self.fresh, table, strict=True):
            for name, value in zip(names, row, strict=True):
                if not math.isfinite(value):
                    raise RunError(f"the term {name} is {value} at step {step}; {DIVERGED}")
            self.seen.append(dict(zip(names, row, strict=True)))
        self.fresh = []
        return self.seen

    def means(self) -> dict[str, float]:
        """The mean of each term over the window, which then begins anew."""
        rows = self.look()
        self.seen = []
        return {name: math.fsum(row[name] for row in rows) / len(rows) for name in rows[0]}


def check_finite(modules: Mapping[str, nn.Module], step: int) -> None:
    """Refuse to save networks that the last step broke: its own terms were taken before it moved. Raises RunError."""
    for name, module in modules.items():
        for parameter, values in module.named_parameters():
            if not bool(values.isfinite().all()):
                raise RunError(f"{parameter} of the {name} is not finite after step {step}; {DIVERGED}")


def append_metrics(file: Path, line: Mapping[str, Any]) -> None:
    """One JSON line more, on the disk before the checkpoint that counts on it."""
    with disk_errors(file), file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


def cut_metrics(file: Path, step: int) -> None:
    """Keep the lines up to `step`; those after it, whole or cut off, a continued run writes again."""
    if not file.exists():
        return
    lines = file.read_bytes().splitlines(keepends=True)
    kept = list(takewhile(lambda line: _step_of(line) <= step, lines))
    with disk_errors(file):
        write_whole(file, b"".join(kept))


def _step_of(line: bytes) -> float:
    """The step of a line; infinity for one that a crash left unfinished."""
    try:
        return int(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except ValueError:
        return math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One fixed picture of the contact sheets: pair `pair` of `split` in `view`."""

    split: Split
    view: str
    pair: int


def choose_samples(store: Store, views: Sequence[str]) -> list[Sample]:
    """Pictures spread over val, else test, else train; the views take turns. Of `tile` the whole tile is shown."""
    counts = store.manifest.counts
    split = next(split for split in (Split.VAL, Split.TEST, Split.TRAIN) if counts.get(split, 0))
    shown = min(SHOWN, counts[split])
    return [Sample(split=split, view=views[n % len(views)], pair=n * counts[split] // shown) for n in range(shown)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the contact sheets of a run show: H&E and real IHC as rows, u8, and the words around them."""

    samples: list[Sample]
    rows: list[Row]
    columns: tuple[str, str, str]
    footer: str


def show(store: Store, samples: list[Sample]) -> Shown:
    """Read the pictures of the contact sheets, once."""
    manifest = store.manifest
    made = f"store {manifest.name}, views enlarged by {manifest.upscaler.name}"
    rows = []
    for sample in samples:
        he, ihc = (store.picture(sample.split, sample.view, stain, sample.pair) for stain in Stain)
        rows.append(Row(label=f"{store.pairs(sample.split)[sample.pair].id}, {sample.view}", pictures=(he, ihc)))
    return Shown(
        samples=samples,
        rows=rows,
        columns=("H&E", f"{manifest.stain}, real", f"{manifest.stain}, translated"),
        footer=f"{made}; synthetic, not tissue" if manifest.synthetic else made,
    )


def draw_shown(shown: Shown, fakes: Sequence[NDArray[np.uint8]], title: str) -> NDArray[np.uint8]:
    """H&E, real IHC and translation, u8 [S,S,3] each, side by side, u8 [H,W,3]."""
    rows = [Row(label=row.label, pictures=(*row.pictures, fake)) for row, fake in zip(shown.rows, fakes, strict=True)]
    return draw_sheet(
        title=f"{title}, pictures of {shown.samples[0].split}",
        columns=shown.columns,
        rows=rows,
        footer=shown.footer,
        side=SHEET_SIDE,
    )


def translate_all(
    generator: nn.Module,
    compute: Compute,
    how: AtTest,
    pictures: Sequence[NDArray[np.uint8]],
    seeds: Sequence[int],
) -> list[Tensor]:
    """Pictures, u8 [S,S,3], through a generator: signed [S,S,3], still on the device. Leaves it in training mode."""
    with at_test(generator, how), compute.autocast():
        return [translate(generator, he, compute.device, seed=seed) for he, seed in zip(pictures, seeds, strict=True)]
