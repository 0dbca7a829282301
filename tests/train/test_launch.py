"""Several processes are started and stopped as one: signals to the launcher alone save, and leave no orphan."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from store.reader import Store
from store.run_files import RunFolder
from tests.support.command_line import CommandLine
from tests.support.places import ROOT
from tests.support.runs import state
from tests.support.tiny_run import NARROW
from train.__main__ import app
from train.loop import fit as loop
from train.loop import session
from train.loop.step import OptimisationStep
from train.runtime.launch import _start as launch_one
from train.runtime.launch import exit_code

OURS = ("-m", "train", "fit", "--processes", "2")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--", "train", "fit")
NEVER_SAVES = (*NARROW, "method=pix2pix", "generator.depth=5", "checkpoint_every=9999999", "data.views=['x1']")
SECONDS = 120

pytestmark = pytest.mark.usefixtures("one_thread")


def start(launcher: tuple[str, ...], store: Path | None, run: Path, *settings: str) -> subprocess.Popen[str]:
    words = ["--store", store, "--run", run, *(w for s in (*NEVER_SAVES, *settings) for w in ("--set", s))]
    return subprocess.Popen(
        [sys.executable, *launcher, *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until_it_trains(process: subprocess.Popen[str], run: Path) -> None:
    while not (run / "metrics.jsonl").exists():  # after step 25
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def processes_of(run: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if str(run) in (p.info["cmdline"] or [])]


@pytest.mark.parametrize(
    ("launcher", "number"),
    [(OURS, signal.SIGUSR1), (TORCHRUN, signal.SIGTERM), (TORCHRUN, signal.SIGUSR1)],  # the last kills torchrun
    ids=["ours", "torchrun-SIGTERM", "torchrun-SIGUSR1"],
)
def test_a_signal_to_the_launcher_alone_saves_and_leaves_no_orphan(
    launcher: tuple[str, ...], number: signal.Signals, store: Store, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(launcher, store.path, run)
    try:
        wait_until_it_trains(process, run)
        assert len(processes_of(run)) == 3
        process.send_signal(number)
        _, said = process.communicate(timeout=SECONDS)
        psutil.wait_procs(processes_of(run), timeout=SECONDS)
        assert processes_of(run) == []
    finally:
        for left in processes_of(run):
            left.kill()
    assert state(RunFolder(run))["step"] >= 25
    if launcher == OURS:
        assert process.returncode == 3, said
        assert "run the same command to resume" in said


def test_two_processes_end_with_0_and_bad_input_with_2(store: Store, tmp_path: Path) -> None:
    short = ("optimiser.constant_epochs=1", "optimiser.decay_epochs=0")
    done = start(OURS, store.path, tmp_path / "run", *short)
    said = done.communicate(timeout=SECONDS)[1]
    assert done.returncode == 0, said
    assert "in each of 2 processes" in " ".join(said.split())
    assert RunFolder(tmp_path / "run").generator.exists()
    changed = start(OURS, store.path, tmp_path / "run", *short, "seed=3")
    said = changed.communicate(timeout=SECONDS)[1]
    assert changed.returncode == 2, said
    assert "was started with seed = 0 (now 3)" in said


def test_bad_input_is_said_once_before_processes_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = CommandLine("train", app, monkeypatch, capsys)
    refused = line("fit", "--processes", 2, "--store", tmp_path / "none.zarr", "--run", tmp_path / "run")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("codes", "code"), [([0, 0], 0), ([3, 3], 3), ([3, 0], 3), ([1, 2], 2), ([3, 1], 1), ([1, -9], 137), ([-15, 2], 2)]
)
def test_one_exit_code_stands_for_all(codes: list[int], code: int) -> None:
    assert exit_code(codes) == code


def test_a_stop_before_the_first_checkpoint_says_that_nothing_was_kept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signal while the networks are built, and a second Ctrl-C within a step."""
    line = CommandLine("train", app, monkeypatch, capsys)
    words = ["fit", "--store", store.path, "--run", tmp_path / "run", *(w for s in NEVER_SAVES for w in ("--set", s))]

    def terminated(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return session.build(*arguments)

    monkeypatch.setattr(loop, "build", terminated)
    stopped = line(*words)
    assert stopped.code == 3, stopped.err
    last = stopped.err.splitlines()[-1]
    assert re.match("stopped: before step 1, .* has no checkpoint yet: nothing was kept; run the same command", last)
    monkeypatch.setattr(loop, "build", session.build)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(OptimisationStep, "__call__", interrupted)
    stopped = line(*words)
    assert stopped.code == 3, stopped.err
    assert "stopped: at once; " in stopped.err.splitlines()[-1]
    assert "has no checkpoint yet: nothing was kept" in stopped.err.splitlines()[-1]


def test_cores_are_divided_among_processes_unless_a_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process was given for itself, before it knew that there are several, is not handed on."""
    given: list[str] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: given.append(env["OMP_NUM_THREADS"]))
    monkeypatch.setattr("train.runtime.launch.count_cores", lambda: 8)
    monkeypatch.setattr("train.runtime.launch.LIMITED", set[str]())
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    launch_one(0, 4, 1)
    monkeypatch.setattr("train.runtime.launch.LIMITED", {"OMP_NUM_THREADS"})
    launch_one(0, 4, 1)
    assert given == ["6", "2"]
