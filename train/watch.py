"""What a person sees of a training run: messages, `metrics.jsonl`, contact sheets of fixed pictures."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from train.device import Compute
from train.predict import rounded, translate

EVERY = 25  # steps between two looks at the terms: each look waits for the device
SHOWN = 4  # pictures of a contact sheet
SHEET_SIDE = 256  # px


def say(text: str) -> None:
    """A line for the person, above the progress bar."""
    tqdm.write(text, file=sys.stderr)


@dataclass(slots=True)
class Window:
    """The terms since the last look, left on the device so that no step waits for it."""

    steps: list[int] = field(default_factory=list)
    terms: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """Keep a step's terms."""
        self.steps.append(step)
        self.terms.append(terms)

    def means(self) -> dict[str, float]:
        """The mean of each term, and forget them. RunError at the first one that is not finite."""
        if not self.steps:
            return {}
        names = list(self.terms[0])
        table = torch.stack([torch.stack([terms[name] for name in names]) for terms in self.terms]).double().cpu()
        for step, row in zip(self.steps, table.tolist(), strict=True):
            for name, value in zip(names, row, strict=True):
                if not math.isfinite(value):
                    raise RunError(
                        f"the term {name} is {value} at step {step}; the last checkpoint is from before: run again "
                        "with --set precision=fp32 or a lower optimiser.learning_rate, in a new run folder"
                    )
        self.steps, self.terms = [], []
        return dict(zip(names, table.mean(dim=0).tolist(), strict=True))


def append_metrics(file: Path, line: Mapping[str, Any]) -> None:
    """One JSON line more."""
    with disk_errors(file), file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")


def cut_metrics(file: Path, step: int) -> None:
    """Forget the lines of steps that a continued run will do again, and a line that was cut off."""
    if not file.exists():
        return
    lines = [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    with disk_errors(file):
        write_whole(file, "".join(kept).encode())


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
    store: Store, samples: Sequence[Sample], generator: nn.Module, compute: Compute, *, title: str
) -> NDArray[np.uint8]:
    """H&E, real IHC and translation side by side, u8 [H,W,3]. The generator is left in training mode."""
    generator.eval()
    rows = []
    for sample in samples:
        he, ihc = (store.picture(sample.split, sample.view, stain, sample.pair) for stain in Stain)
        with compute.autocast():
            fake = rounded(translate(generator, he, compute.device))
        name = store.pairs(sample.split)[sample.pair].id
        rows.append(Row(label=f"{name}, {sample.view}", pictures=(he, ihc, fake)))
    generator.train()
    manifest = store.manifest
    made = f"store {manifest.name}, views enlarged by {manifest.upscaler.name}"
    return draw_sheet(
        title=f"{title}, pictures of {samples[0].split}",
        columns=("H&E", f"{manifest.stain}, real", f"{manifest.stain}, translated"),
        rows=rows,
        footer=f"{made}; synthetic, not tissue" if manifest.synthetic else made,
        side=SHEET_SIDE,
    )
