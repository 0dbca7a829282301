"""How many threads a run has: as set, as at its first start, or one for each core; they wait asleep."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from store.reader import Store
from store.run_files import RunFolder
from store.schema import Interrupted, SettingsError
from store.settings import load
from tests.support.places import ROOT
from tests.support.tiny_run import TINY
from train.loop.fit import fit
from train.runtime import threads
from train.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")
QUIET = "cpu 0 0 0 0 0 0\n" + "\n".join(f"cpu{core} 100 0 50 1000 10 0" for core in range(4)) + "\nintr 5"


def after(*busy: float) -> str:
    """A reading 100 ticks later, when core n was busy for that share of the time."""
    rows = [
        f"cpu{n} {100 + round(100 * share)} 0 50 {1000 + round(100 - 100 * share)} 10 0" for n, share in enumerate(busy)
    ]
    return "\n".join(["cpu 9 9 9 9 9 9", *rows, "intr 6"])


@pytest.mark.parametrize(
    ("busy", "cores", "free"),
    [
        ((0, 0, 0, 0), {0, 1, 2, 3}, 4),
        ((1, 0, 0, 0), {0, 1, 2, 3}, 3),
        ((1, 1, 1, 1), {0, 1, 2, 3}, 0),
        ((0.5, 0.5, 0.1, 0), {0, 1, 2, 3}, 3),
        ((1, 1, 0, 0), {0, 2}, 1),  # the others are not ours
    ],
)
def test_free_cores_are_those_that_nobody_used(busy: tuple[float, ...], cores: set[int], free: int) -> None:
    assert threads.free_cores(QUIET, after(*busy), cores) == free


def test_a_number_that_is_set_or_recorded_wins_whatever_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(threads, "STAT", Path("none"))
    assert [threads.settle_threads(*each) for each in ((0, 0), (0, 3), (0, 8), (7, 3))] == [4, 3, 4, 7]
    with pytest.raises(SettingsError, match=r"threads = -1: at least 1, or 0"):
        TrainSettings(threads=-1)


@pytest.mark.parametrize(
    ("busy", "said"),
    [
        ((0.0, 0.0, 0.0, 0.0), ""),
        ((1.0, 1.0, 0.0, 0.0), "other programs use 2 of 4 cores: steps take longer; threads=2 may be faster than 4"),
        ((1.0, 1.0, 1.0, 1.0), "other programs use 4 of 4 cores: steps take longer; threads=1 may be faster than 4"),
    ],
)
def test_cores_that_others_use_are_said(
    busy: tuple[float, ...], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "stat").write_text(QUIET)
    monkeypatch.setattr(threads, "STAT", tmp_path / "stat")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(time, "sleep", lambda _: (tmp_path / "stat").write_text(after(*busy)))
    assert threads.describe_busy_cores(4) == said
    assert threads.describe_busy_cores(1) == ""


def test_threads_are_recorded_and_kept_by_a_run_that_is_resumed(store: Store, tmp_path: Path) -> None:
    folder, used = RunFolder(tmp_path / "run"), []
    try:
        for wanted, most in ((2, 1), (0, 4), (3, 4)):
            torch.set_num_threads(most)
            with pytest.raises(Interrupted):
                fit(folder, store, replace(TINY, threads=wanted, time_limit=1e-6))
            used.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(1)
    assert used == [2, 2, 3]
    assert load(TrainSettings, folder.settings).threads == 2


def test_threads_of_openmp_sleep_while_they_wait(tmp_path: Path) -> None:
    """OpenMP itself says so, when PyTorch loads it."""
    done = subprocess.run(
        [sys.executable, "-m", "train", "fit", "--store", tmp_path / "none.zarr", "--run", tmp_path / "run"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | {"OMP_DISPLAY_ENV": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
