"""What a forked process runs: the four command lines, and a few commands that only attacks need."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import typer
from torch import Tensor

import evaluate.__main__
import evaluate.features.weights
import prep.__main__
import store.__main__
import store.weights
import train.__main__
from store.cli import run_app
from tests.attack.machine.mirror import SMALL
from tests.support.predictions import Seeded

APPS: dict[str, typer.Typer] = {
    "evaluate": evaluate.__main__.app,
    "prep": prep.__main__.app,
    "store": store.__main__.app,
    "train": train.__main__.app,
}


def warm() -> None:
    """Import what the verbs import when they run; no fork copies it."""
    import evaluate.features.extract
    import evaluate.features.weights
    import evaluate.report.contact_sheet
    import evaluate.report.figure
    import evaluate.report.html_page
    import evaluate.scoring.score  # noqa: F401 - for the forks
    import prep.build.run
    import prep.build.write
    import prep.demo.draw
    import prep.fidelity.report  # noqa: F401 - for the forks
    import store.contact_sheet
    import store.overview
    import store.verify  # noqa: F401 - for the forks
    import train.attention_maps
    import train.describe
    import train.importing.run
    import train.loop.fit
    import train.predict
    import train.translate.run  # noqa: F401 - for the forks

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


def run(words: tuple[str, ...]) -> int:
    """Run a command and return its exit code."""
    os.fsync = lambda _: None  # type: ignore[assignment] # a killed process loses nothing that it wrote
    name, *rest = words
    if name in HELPERS:
        return HELPERS[name](*rest)
    return command(name, *rest)


def command(name: str, *rest: str) -> int:
    """Run one of the four command lines and return its exit code."""
    sys.argv = [name, *rest]
    try:
        run_app(APPS[name])
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    return 0


def methods() -> int:
    """Print the narrow settings of every method, as JSON."""
    from tests.support.tiny_run import NARROW, NARROW_CONTRAST, read_by
    from train.methods.registry import METHODS

    narrow = [*NARROW, *NARROW_CONTRAST, "generator.depth=5"]
    print(json.dumps({method: read_by(method, narrow) for method in METHODS}))
    return 0


def moments(run: str) -> int:
    """Print the largest second moment of each player in the newest checkpoint, and what is not finite, as JSON."""
    file = max(Path(run).glob("checkpoints/*.pt"))
    held = torch.load(file, "cpu", weights_only=True)
    tensors = {f"{name} {key}": value for name, module in held["modules"].items() for key, value in module.items()}
    largest = {}
    for player, optimiser in held["optimisers"].items():
        seconds = [state["exp_avg_sq"] for state in optimiser["state"].values()]
        tensors |= {f"moments of {player} {n}": second for n, second in enumerate(seconds)}
        largest[player] = max(second.max().item() for second in seconds)
    infinite = [
        name for name, tensor in tensors.items() if isinstance(tensor, Tensor) and not bool(tensor.isfinite().all())
    ]
    print(json.dumps({"moments": largest, "infinite": infinite}))
    return 0


def weights(*words: str) -> int:
    """`store weights` for the small file of the mirror, which takes the place of the published ones."""
    store.weights.WEIGHT_FILES.clear()
    store.weights.WEIGHT_FILES[SMALL.name] = SMALL
    return command("store", "weights", *words)


def score_seeded(*words: str) -> int:
    """`evaluate score` with a network whose parameters are drawn, in place of all that are published."""
    evaluate.features.weights.WeightsFolder = lambda *_: Seeded()  # type: ignore[assignment,misc]
    return command("evaluate", "score", *words)


HELPERS: dict[str, Callable[..., int]] = {
    "methods": methods,
    "moments": moments,
    "weights": weights,
    "score-seeded": score_seeded,
}
