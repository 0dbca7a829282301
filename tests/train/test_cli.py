"""`python -m train`: exit codes, one-line errors, what is on disk before and after, and how soon `--help` answers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from store.reader import Store
from tests.support.command_line import CommandLine
from tests.support.places import ROOT
from train.__main__ import app

TINY = [
    *("--set", "generator.base=4", "--set", "discriminator.base=4", "--set", "contrast.width=8"),
    *("--set", "data.workers=0", "--set", "checkpoint_every=5", "--set", "optimiser.constant_epochs=2"),
    *("--set", "optimiser.decay_epochs=1"),
]  # 3 epochs of 8 steps
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}  # cores are shared with other tests


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """`python -m train` in this process, which has imported torch already."""
    return CommandLine("train", app, monkeypatch, capsys)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_run_that_is_terminated_exits_with_3_and_the_same_command_finishes_it(
    run: CommandLine, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "a run"
    command = [*("fit", "--store", store.path, "--run", folder), *TINY]
    process = subprocess.Popen(
        [sys.executable, "-m", "train", *map(str, command), "--set", "data.workers=1"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (folder / "checkpoints").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)  # the whole group, as a scheduler does
    _, said = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the run was at its end before the signal arrived")
    assert process.returncode == 3, said
    assert "SIGTERM: saving, then exiting" in said
    assert "stopped:" in said.splitlines()[-1]
    assert "of 24; run the same command to resume" in said.splitlines()[-1]

    again = run(*command)
    assert again.code == 0, again.err
    assert "resuming after step" in again.err
    assert "finished: the generator is" in again.err
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [24]

    before = listing(folder)
    third = run(*command)
    assert third.code == 0
    assert "is finished (24 steps)" in third.err
    assert listing(folder) == before

    changed = run(*command, "--set", "seed=7")
    assert changed.code == 2
    assert changed.err.startswith("error: ")
    assert "seed = 0 (now 7)" in changed.err
    assert changed.err.count("\n") == 1
    assert listing(folder) == before

    predicted = run("predict", "--run", folder)
    assert predicted.code == 0, predicted.err
    assert f"4 predictions written to {folder}/predictions/test/tile" in predicted.err
    again = run("predict", "--run", folder)
    assert again.code == 0
    assert again.err == f"4 predictions already exist in {folder}/predictions/test/tile\n"
    assert len(list(folder.rglob("predictions/test/tile/fake/*.png"))) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "{tmp}/none.zarr"], "none.zarr is no store: it does not exist"),
        (["--store", "{store}", "--set", "generator.bas=3"], "did you mean 'base'"),
        (["--store", "{store}", "--set", "method=cutt"], "method = 'cutt': no such method; did you mean 'cut'"),
        (["--store", "{store}", "--config", "{tmp}/none.toml"], "no settings file"),
        (["--store", "{store}", "--set", "data.views=['x8']"], "has x1, x2, x4, tile; name some of these"),
        (["--store", "{small}"], "pictures of 64 px.*96 px"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_writes_nothing(
    run: CommandLine, store: Store, small_store: Store, tmp_path: Path, arguments: list[str], message: str
) -> None:

    places = {"store": store.path, "small": small_store.path, "tmp": tmp_path}
    done = run("fit", "--run", tmp_path / "run", *(argument.format(**places) for argument in arguments))
    assert done.code == 2
    assert re.fullmatch(rf"error: .*{message}.*\n", done.err), done.err
    assert list(tmp_path.iterdir()) == []


def test_predicting_a_run_that_is_not_there_is_refused(run: CommandLine, tmp_path: Path) -> None:
    done = run("predict", "--run", tmp_path / "run")
    assert done.code == 2
    assert "is not a run: it has no run.json; train one with `python -m train fit`" in done.err
    assert list(tmp_path.iterdir()) == []


def test_describe_counts_the_parameters_of_the_published_networks(run: CommandLine) -> None:
    done = run("describe", "--set", "generator.stem=7", "--set", "generator.attention.enabled=false")
    assert done.code == 0, done.err
    assert "generator: 7,837,699 parameters" in done.out
    assert "discriminator: 2,791,905 parameters" in done.out
    assert "heads: 560,384 parameters" in done.out
    assert "256x31x31" in done.out  # the discriminator's fifth convolution at 512 px
    refused = run("describe", "--side", "90")
    assert refused.code == 2
    assert "a multiple of 4, such as 88 or 92" in refused.err


def test_help_waits_for_no_heavy_import() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "train", "fit", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--config" in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert not imported & {"torch", "zarr", "cv2", "safetensors"}
