"""`metrics.jsonl` and `validation.jsonl`: a JSON line now and then, and the terms that wait for the next one."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from store.files import digest_bytes, disk_errors, write_whole
from store.schema import RunError
from train.run.skips import Skips, Unusual, find_unusual
from train.runtime.distributed import mean_of_all


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of a step and the lengths of its gradients, named by `gradient_<player>`: `values` [n], on the device.

    Together they are one tensor, which is copied, stacked and fetched at once.
    """

    names: tuple[str, ...]
    values: Tensor

    @classmethod
    def of(cls, named: Mapping[str, Tensor]) -> Terms:
        """Of tensors [] each."""
        return cls(names=tuple(named), values=torch.stack(list(named.values())))

    def by_name(self) -> dict[str, Tensor]:
        """Each of them, []."""
        return dict(zip(self.names, self.values.unbind(), strict=True))


@dataclass(slots=True)
class TermWindow:
    """The terms since the last line of `metrics.jsonl`.

    Those of `fresh` steps stay on the device, so that no step waits for it; `fetched` ones are numbers. A step with a
    term that is not finite was skipped: it is counted, and its terms are left out.
    """

    fetched: list[dict[str, float]] = field(default_factory=list)
    skips: Skips = field(default_factory=Skips)
    fresh: list[tuple[int, Terms]] = field(default_factory=list)

    def add(self, step: int, terms: Terms) -> None:
        """Take in the terms of a step. RunError for other terms than a checkpoint brought."""
        if self.fetched and self.fetched[0].keys() != set(terms.names):
            names = sorted(self.fetched[0].keys() ^ set(terms.names))
            raise RunError(
                f"the newest checkpoint has terms of another method: {names[0][:60]!r} differs; bring back a copy of "
                "it, or remove it from the run's checkpoints, to resume from the one before"
            )
        self.fresh.append((step, terms))

    def fetch(self) -> list[Unusual]:
        """Wait for the device: terms of fresh steps, each the mean over processes, become numbers.

        Returns those of the steps that stand out.
        """
        rows = [terms.values for _, terms in self.fresh]
        table = mean_of_all(torch.stack(rows).double()).tolist() if rows else []  # [steps, terms]
        unusual: list[Unusual] = []
        for (step, names), row in zip(((step, terms.names) for step, terms in self.fresh), table, strict=True):
            terms = dict(zip(names, row, strict=True))
            skipped = not all(map(math.isfinite, row))
            self.skips = self.skips.after(skipped=skipped)
            unusual += find_unusual(step, terms, self.skips.in_row)
            if not skipped:
                self.fetched.append(terms)
        self.fresh = []
        return unusual

    def take(self) -> dict[str, float]:
        """How many fetched steps were `skipped`, and the mean of each term over the others; empties the window."""
        rows, skipped = self.fetched, self.skips.unwritten
        self.fetched, self.skips = [], replace(self.skips, unwritten=0)
        names = rows[0] if rows else {}
        return {"skipped": skipped} | {name: math.fsum(row[name] for row in rows) / len(rows) for name in names}


def append_line(file: Path, line: Mapping[str, Any]) -> None:
    """Append a JSON line and wait until it is on disk: a checkpoint that follows relies on it."""
    with disk_errors(file), file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


def lines_digest(file: Path) -> str:
    """The sha256 of a file of lines, which a checkpoint keeps; a file that does not exist has no lines."""
    return digest_bytes(file.read_bytes() if file.exists() else b"")


def keep_lines(file: Path, step: int, digest: str | None) -> list[str]:
    """Keep the lines up to `step`; a resumed run writes those after it again, complete or torn.

    Returns a warning if the lines up to `step` are not those that had this digest then (None: nobody knows it); a file
    with lines that cannot be read is also kept as `*.damaged`.
    """
    with disk_errors(file):
        data = file.read_bytes() if file.exists() else b""
        lines = data.splitlines(keepends=True)
        steps = [_step_of(line) for line in lines]
        kept = [line for line, found in zip(lines, steps, strict=True) if found <= step]
        whole = digest_bytes(b"".join(kept)) == digest if digest else lines[: len(kept)] == kept
        if not whole and inf in steps:
            write_whole(file.with_name(f"{file.name}.damaged"), data)
        if kept != lines:
            write_whole(file, b"".join(kept))
    warning = (
        f"{file} is damaged: lines up to step {step} are missing or changed; the {len(kept)} readable ones are kept"
    )
    return [] if whole else [warning]


def _step_of(line: bytes) -> float:
    """The step of a line; infinity for one that is damaged, or that a crash left incomplete."""
    try:
        found = json.loads(line)["step"] if line.endswith(b"\n") else inf
    except (ValueError, KeyError, TypeError, RecursionError):
        return inf
    return found if isinstance(found, int) else inf
