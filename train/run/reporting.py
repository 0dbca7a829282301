"""What a run says: lines and a progress bar for a person on stderr, JSON lines for a scheduler on stdout."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from store.files import disk_errors, write_whole
from store.schema import RunError
from train.runtime.distributed import mean_of_all

EVERY = 25  # steps between two looks at the terms: each look waits for the device
DIVERGED = (
    "nothing was saved of it: begin a new run with --set precision=fp32, a lower optimiser.learning_rate or "
    "optimiser.clip=1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """`speaks`: of several processes one does. `as_json`: events are written, and no bar is drawn between them."""

    speaks: bool = True
    as_json: bool = False

    def say(self, text: str) -> None:
        """A line for the person, above the progress bar."""
        if self.speaks:
            tqdm.write(text, file=sys.stderr)

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        """A line for a program: {"event": name, …}."""
        if self.speaks and self.as_json:
            sys.stdout.write(json.dumps({"event": name, **facts}) + "\n")
            sys.stdout.flush()

    def bar(self, *, total: int, done: int, what: str) -> tqdm[Any]:
        """The progress bar: steps a second, time left, terms."""
        hidden = self.as_json or not self.speaks
        return tqdm(total=total, initial=done, desc=what, unit="step", file=sys.stderr, disable=hidden)


class Board:
    """Event files in `folder`, or none unless `wanted`. What was told of steps after `done` is no longer shown."""

    def __init__(self, folder: Path, *, done: int, wanted: bool) -> None:
        self._writers = [SummaryWriter(str(folder), purge_step=done + 1)] if wanted else []

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Numbers, shown as `group/name`."""
        for writer in self._writers:
            for name, value in values.items():
                writer.add_scalar(f"{group}/{name}", value, step)

    def picture(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """A picture, u8 [H,W,3]."""
        for writer in self._writers:
            writer.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Onto the disk."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """No more comes."""
        for writer in self._writers:
            writer.close()


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
