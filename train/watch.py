"""What a person sees of a training run: messages, `metrics.jsonl`, contact sheets of fixed pictures."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from store.files import disk_errors, write_whole
from store.reader import Store
from store.schema import RunError, Split, Stain
from store.sheet import Row, draw_sheet
from train.choices import AtTest
from train.device import Compute
from train.predict import at_test, rounded, translate

EVERY = 25  # steps between two looks at the terms: each look waits for the device
DIVERGED = (
    "nothing was saved of it: begin a new run with --set precision=fp32 or a lower optimiser.learning_rate; "
    "this folder keeps the last checkpoint from before"
)
SHOWN = 4  # pictures of a contact sheet
SHEET_SIDE = 256  # px


def say(text: str) -> None:
    """A line for the person, above the progress bar."""
    tqdm.write(text, file=sys.stderr)


@dataclass(slots=True)
class Window:
    """The terms since the last line of `metrics.jsonl`: `fresh` ones still on the device, so that no step waits."""

    seen: list[dict[str, float]] = field(default_factory=list)
    fresh: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """Keep a step's terms."""
        self.fresh.append((step, terms))

    def look(self) -> list[dict[str, float]]:
        """Wait for the device and see all terms. RunError at the first one that is not finite."""
        names = list(self.fresh[0][1]) if self.fresh else []
        rows = [torch.stack([terms[name].double() for name in names]) for _, terms in self.fresh]
        table = torch.stack(rows).tolist() if rows else []
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


def draw_samples(
    store: Store, samples: Sequence[Sample], generator: nn.Module, compute: Compute, *, how: AtTest, title: str
) -> NDArray[np.uint8]:
    """H&E, real IHC and translation side by side, u8 [H,W,3]. The generator is left in training mode."""
    rows = []
    with at_test(generator, how), compute.autocast():
        for sample in samples:
            he, ihc = (store.picture(sample.split, sample.view, stain, sample.pair) for stain in Stain)
            fake = rounded(translate(generator, he, compute.device, seed=sample.pair))
            name = store.pairs(sample.split)[sample.pair].id
            rows.append(Row(label=f"{name}, {sample.view}", pictures=(he, ihc, fake)))
    manifest = store.manifest
    made = f"store {manifest.name}, views enlarged by {manifest.upscaler.name}"
    return draw_sheet(
        title=f"{title}, pictures of {samples[0].split}",
        columns=("H&E", f"{manifest.stain}, real", f"{manifest.stain}, translated"),
        rows=rows,
        footer=f"{made}; synthetic, not tissue" if manifest.synthetic else made,
        side=SHEET_SIDE,
    )
