"""Several processes that train one run: equal to one process with all their pictures, and safe when one dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from store.reader import Store
from store.records.facts import read_facts
from store.run_files import RunFolder
from store.schema import RunError
from tests.support.distributed_steps import PRECISIONS, SMALL, Recorded, draw_pairs, rows, small, take
from tests.support.places import ROOT
from tests.support.runs import state
from train.loop.fit import fit
from train.methods.registry import METHODS, build_method

BATCH_NORM = ("pix2pix", "pyramid_p2p")
INSTANCE_NORM = tuple(method for method in METHODS if method not in BATCH_NORM)

pytestmark = pytest.mark.usefixtures("one_thread")


def torchrun(*words: object, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """Two processes on this machine, each with one thread."""
    starter = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*starter, f"--max-restarts={restarts}", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the step that two processes took with each method, on one picture each."""
    out = tmp_path_factory.mktemp("steps")
    done = torchrun("-m", "tests.support.distributed_steps", out, *METHODS)
    assert done.returncode == 0, done.stderr
    return out


def worst(one: Recorded, two: Recorded) -> float:
    """The largest difference of a gradient, in units of its length; of biases in units of the longest gradient.

    Before a norm a bias has a gradient of rounding only, and a layer after a ReLU whose output is zero has none.
    """
    assert one.keys() == two.keys()
    longest = max(float(np.linalg.norm(one[name])) for name in one)
    unit = {name: longest if name.endswith("bias") else float(np.linalg.norm(one[name])) for name in one}
    return max(float(np.linalg.norm(one[name] - two[name])) / (unit[name] or longest) for name in one)


@pytest.mark.parametrize("method", INSTANCE_NORM)
def test_two_processes_with_a_picture_each_take_the_step_of_one_with_both(method: str, steps: Path) -> None:
    """In double, where no rounding turns a ReLU over its kink: ASP's weights, image pools and positions agree too."""
    with np.load(steps / f"{method}-double.npz") as file:
        two = dict(file)
    assert worst(take(method, [draw_pairs(2)], *PRECISIONS["double"]), two) < 1e-9


@pytest.mark.parametrize("method", INSTANCE_NORM)
def test_two_processes_take_the_step_of_one_that_adds_up_two_batches(method: str, steps: Path) -> None:
    """In float32 on the same kernels; before ASP's weights set in, which are scaled within a batch, and without
    power iterations, of which each batch makes its own.
    """
    with np.load(steps / f"{method}-single.npz") as file:
        two = dict(file)
    pairs = draw_pairs(2)
    one = take(method, [rows(pairs, slice(0, 1)), rows(pairs, slice(1, 2))], *PRECISIONS["single"])
    assert worst(one, two) < 1e-6


@pytest.mark.parametrize("method", BATCH_NORM)
def test_batch_norm_sees_the_pictures_of_its_own_process(method: str, steps: Path) -> None:
    with np.load(steps / f"{method}-double.npz") as file:
        two = dict(file)
    assert worst(take(method, [draw_pairs(2)], *PRECISIONS["double"]), two) > 1e-3


def test_a_step_on_one_half_is_another_step(steps: Path) -> None:
    """What the comparison above would say if gradients were not averaged."""
    with np.load(steps / "asp-double.npz") as file:
        two = dict(file)
    assert worst(take("asp", [rows(draw_pairs(2), slice(0, 1))], *PRECISIONS["double"]), two) > 1e-2


SHORT = ("optimiser.constant_epochs=3", "optimiser.decay_epochs=1", "checkpoint_every=5", "sample_every=100")
DIES = """
import os, signal, sys
from pathlib import Path
from train import __main__ as program
from train.loop import fit as loop
from train.loop.step import step_generator

def dying(seed, step, part=0):
    marker = Path(sys.argv.pop()) if step == 8 and sys.argv[-1].endswith("died") else None
    if marker and os.environ["RANK"] == "1" and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return step_generator(seed, step, part)

loop.step_generator = dying
marker = sys.argv.pop()
words, sys.argv = sys.argv[1:], [*sys.argv, marker]
program.app(words, standalone_mode=False)
"""


def words_of(store: Store, run: Path, *settings: str) -> list[object]:
    chosen = ("method=asp", *SMALL, *SHORT, *settings, "data.views=['x1','x2']")
    return ["fit", "--store", store.path, "--run", run, "--json", *(w for s in chosen for w in ("--set", s))]


@dataclass(frozen=True)
class Together:
    """A run that two processes trained without a fault, and what they said."""

    folder: RunFolder
    out: str
    err: str


@pytest.fixture(scope="module")
def together(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Together:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "two")
    done = torchrun("-m", "--", "train", *words_of(store, folder.path))
    assert done.returncode == 0, done.stderr
    return Together(folder, done.stdout, done.stderr)


def test_torchrun_trains_one_run_that_a_single_process_could_have_trained(
    together: Together, store: Store, tmp_path: Path
) -> None:
    said = " ".join(together.err.split())
    assert "steps of batch 2 (1 in each of 2 processes x 1 accumulated; the learning rate stays as set)" in said
    events = [json.loads(line) for line in together.out.splitlines() if line.startswith("{")]
    assert events[0]["event"] == "started"
    two, one = together.folder, RunFolder(tmp_path / "one")
    assert events[-1] == {"event": "finished", "run": str(two.path), "step": 16, "skipped": 0}
    assert (read_facts(two).processes, read_facts(two).effective_batch, read_facts(two).pairs_seen) == (2, 2, 32)
    views = "data.views=['x1','x2']"
    fit(one, store, small("asp", *SHORT, views, "data.batch=2"))
    torch.manual_seed(0)
    moved = unlike = 0.0
    for name, module in build_method(small("asp")).modules().items():
        for key, initial in module.named_parameters():
            if not key.endswith("bias"):
                alone, other = state(one)["modules"][name][key], state(two)["modules"][name][key]
                moved += float((alone - initial.detach()).square().sum())
                unlike += float((alone - other).square().sum())
    assert unlike < 0.3**2 * moved  # Adam's first steps are as long for a gradient of rounding as for any other
    lines = [[json.loads(line) for line in folder.metrics.read_text().splitlines()] for folder in (one, two)]
    for alone_line, line in zip(*lines, strict=True):
        assert line["nce"] == pytest.approx(alone_line["nce"], rel=1e-3)
        assert line["pyramid"] == pytest.approx(alone_line["pyramid"], rel=1e-3)
    with pytest.raises(RunError, match="started by 2 processes with an effective batch of 2, now there are 1 with 1"):
        fit(two, store, small("asp", *SHORT, views))


def test_a_killed_process_costs_the_steps_since_the_last_checkpoint_and_no_more(
    together: Together, store: Store, tmp_path: Path
) -> None:
    program, marker = tmp_path / "dies.py", tmp_path / "died"
    program.write_text(DIES)
    done = torchrun("--", program, *words_of(store, tmp_path / "cut"), marker, restarts=1)
    assert done.returncode == 0, done.stderr
    assert marker.exists()
    assert str(signal.SIGKILL.value) in done.stderr
    assert "resuming after step 5" in done.stderr
    cut, straight = state(RunFolder(tmp_path / "cut")), state(together.folder)
    assert cut["step"] == straight["step"] == 16
    for name, module in straight["modules"].items():
        for key, value in module.items():
            assert torch.equal(value, cut["modules"][name][key]), (name, key)
