"""A GPU that is here and cannot be used: a run says so, and how long it takes; one that was asked for stops it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from store.reader import Store
from store.run_files import RunFolder
from store.schema import SettingsError
from tests.support.command_line import CommandLine
from tests.support.gpus import H100, V100, forget, hide, pretend
from tests.support.tiny_run import NARROW, NARROW_CONTRAST, ONE_EPOCH
from train.__main__ import app
from train.runtime.device import resolve
from train.runtime.distributed import Ranks
from train.settings import Precision

SETS = [
    word
    for setting in (*NARROW, *NARROW_CONTRAST, *ONE_EPOCH, "device=auto")
    if setting != "device=cpu"
    for word in ("--set", setting)
]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    """`python -m train` on a machine without a GPU."""
    forget(monkeypatch, tmp_path / "root")
    return CommandLine("train", app, monkeypatch, capsys)


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch, train: CommandLine) -> CommandLine:
    """The same in a job that has a GPU, which a variable hides."""
    hide(monkeypatch)
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return train


@pytest.mark.usefixtures("one_thread")
def test_a_run_says_that_a_gpu_is_hidden_and_how_long_it_takes_and_is_the_same_run(
    store: Store, tmp_path: Path, hidden: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = hidden("fit", "--store", store.path, "--run", tmp_path / "hidden", *SETS)
    assert done.code == 0, done.err
    (warning,) = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert warning.startswith(
        "warning: a GPU is here (SLURM_JOB_GPUS=0), but PyTorch cannot use it: CUDA_VISIBLE_DEVICES='' hides it; unset"
    )
    assert "This run trains on the CPU, where its 8 steps take about " in warning
    assert warning.endswith("--set device=cpu says that it should")
    head = done.err[: done.err.index("starting at step 1")]
    assert "note        a GPU is here (SLURM_JOB_GPUS=0)" in head
    again = hidden("fit", "--store", store.path, "--run", tmp_path / "asked", *SETS, "--set", "device=cpu")
    assert (again.code, "GPU" in again.err) == (0, False)
    one, two = (RunFolder(tmp_path / name).metrics.read_text().splitlines()[-1] for name in ("hidden", "asked"))
    assert {k: v for k, v in json.loads(one).items() if k != "seconds"} == {
        k: v for k, v in json.loads(two).items() if k != "seconds"
    }
    assert (
        RunFolder(tmp_path / "hidden").generator.read_bytes()[-999:]
        == (RunFolder(tmp_path / "asked").generator.read_bytes()[-999:])
    )

    predicted = hidden("predict", "--run", tmp_path / "hidden", "--store", store.path)
    assert predicted.code == 0
    assert predicted.err.count("CUDA_VISIBLE_DEVICES='' hides it") == 1
    for command in (
        ("fit", "--store", store.path, "--run", tmp_path / "run", *SETS, "--set", "device=cuda"),
        ("predict", "--run", tmp_path / "asked", "--store", store.path, "--device", "cuda", "--view", "x1"),
    ):
        refused = hidden(*command)
        assert refused.code == 2
        assert "error: device = 'cuda': a GPU is here (SLURM_JOB_GPUS=0), but" in refused.err.splitlines()[-1]


def test_a_machine_without_a_gpu_hears_nothing_of_one(train: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "Found no NVIDIA driver on your system.")
    assert resolve("auto", Precision.FP32).device.type == "cpu"
    with pytest.raises(
        SettingsError, match=r"^device = 'cuda': PyTorch finds no GPU on this machine; or use auto or cpu$"
    ):
        resolve("cuda", Precision.FP32)


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_gpu_without_kernels_stops_a_run_before_its_first_step(
    device: str, store: Store, tmp_path: Path, train: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, V100)
    done = train("fit", "--store", store.path, "--run", tmp_path / "run", *SETS, "--set", f"device={device}")
    assert done.code == 2
    assert f"error: device = {device}: this GPU is 7.0, this torch begins at 7.5" in done.err
    assert "--set device=cpu" in done.err
    assert not (tmp_path / "run").exists()


def test_each_process_looks_at_its_own_gpu(train: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, H100, V100)
    assert resolve("auto", Precision.FP32, Ranks(rank=0, count=2, local=0)).device == torch.device("cuda:0")
    with pytest.raises(SettingsError, match=r"this GPU is 7\.0"):
        resolve("auto", Precision.FP32, Ranks(rank=1, count=2, local=1))


def test_portable_code_is_able(train: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, ((12, 0), "NVIDIA GeForce RTX 5090"), kernels=("sm_80", "compute_90"))
    assert resolve("auto", Precision.FP32).device == torch.device("cuda:0")
    assert replace(resolve("cuda", Precision.BF16)).precision is Precision.BF16
