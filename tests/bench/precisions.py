"""Loss curves of 200 steps of the demo in bf16 and in fp32, and how far they are apart.

The scale is a third run, in fp32 with another seed. Terms are means of 25 steps, as `metrics.jsonl` has them; a
difference is the mean over the lines of |one - other| / other.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.bench.start import CONFIG, STORE

STEPS = 200
RUNS = {"fp32": ("precision=fp32",), "bf16": ("precision=bf16",), "fp32, seed 1": ("precision=fp32", "seed=1")}
SHORT = ("optimiser.constant_epochs=2", "optimiser.decay_epochs=1", "checkpoint_every=1000", "sample_every=1000")


def curve(settings: tuple[str, ...]) -> list[dict[str, float]]:
    """The lines of a run's metrics up to step 200."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["fit", "--store", STORE, "--run", Path(folder) / "run", "--config", CONFIG, "--json"]
        asked = [word for setting in (*SHORT, *settings) for word in ("--set", setting)]
        done = subprocess.run(
            [sys.executable, "-m", "train", *map(str, words), *asked], check=True, capture_output=True, text=True
        )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return [event for event in events if event["event"] == "metrics" and event["step"] <= STEPS]


def apart(one: list[dict[str, float]], other: list[dict[str, float]], term: str) -> float:
    """How far a term of two curves is apart."""
    ours, theirs = (np.array([line[term] for line in lines]) for lines in (one, other))
    return float(np.mean(np.abs(ours - theirs) / np.abs(theirs)))


def main() -> None:
    """Train three times and print the table."""
    if not STORE.exists():
        sys.exit(f"no {STORE}: run `make demo` or `make prepare` first")
    curves = {name: curve(settings) for name, settings in RUNS.items()}
    plain = curves["fp32"]
    facts = ("event", "step", "epoch", "seconds", "learning_rate", "skipped")
    terms = [name for name in plain[0] if name not in facts]
    print(f"| term | fp32, steps {STEPS - 24} to {STEPS} | bf16 | bf16 against fp32 | another seed against fp32 |")
    print("|---|--:|--:|--:|--:|")
    for term in terms:
        ends = " | ".join(f"{curves[name][-1][term]:.4g}" for name in ("fp32", "bf16"))
        far = " | ".join(f"{apart(curves[name], plain, term):.1%}" for name in ("bf16", "fp32, seed 1"))
        print(f"| {term} | {ends} | {far} |")


if __name__ == "__main__":
    main()
