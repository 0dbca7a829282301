"""Too little memory on a device: one line that says what to lower, exit code 2, and the same command goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from store.process import WORKSPACE_MIB, DeviceMemoryError, bound_workspaces, device_memory
from store.reader import Store
from store.run_files import RunFolder
from tests.support.command_line import CommandLine, Outcome
from tests.support.tiny_run import NARROW
from tests.support.untrained_run import make_run
from train import attention_maps
from train import predict as predict_module
from train.__main__ import app
from train.loop import captured, session
from train.loop.step import OptimisationStep
from train.run import snapshots
from train.runtime.device import Compute
from train.runtime.memory import smaller_pictures, smaller_step, step_of
from train.settings import DataSettings, Precision, TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")
LACKS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total\nand a page of advice"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
)
SHORT = [*NARROW, "method=pix2pix", "generator.depth=5", "optimiser.constant_epochs=1", "optimiser.decay_epochs=0"]
SHORT += ["data.views=['x1']", "checkpoint_every=2", "sample_every=4"]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine("train", app, monkeypatch, capsys)


def lacking(error: RuntimeError) -> Callable[..., object]:
    """Runs out of memory at a call."""

    def raises(*_: object, **_named: object) -> object:
        raise error

    return raises


def check(done: Outcome, what: str, lowered: str) -> None:
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    line = done.err.splitlines()[-1]
    assert line.startswith(f"error: not enough memory for {what} ("), done.err
    assert lowered in line


@pytest.mark.parametrize("error", LACKS, ids=range(len(LACKS)))
def test_each_way_of_pytorch_to_say_it_is_known(error: RuntimeError) -> None:
    with pytest.raises(DeviceMemoryError) as caught, device_memory("a step", "lower it"):
        raise error
    text = str(caught.value)
    assert text.startswith("not enough memory for a step (")
    assert text.endswith("); lower it")
    assert "\n" not in text
    assert len(text) < 250


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), MemoryError()])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, device_memory("a step", "lower it"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Compute, "place"), (captured, "to_batch"), (OptimisationStep, "__call__"), (session, "make_optimisers"),
     (snapshots, "translate")],
)  # fmt: skip
def test_a_run_says_what_to_lower_and_goes_on_later(
    command: CommandLine, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    """Networks and optimisers that do not fit, a batch, a step, the pictures of a contact sheet."""
    words = ("fit", "--store", store.path, "--run", tmp_path / "run", *(w for s in SHORT for w in ("--set", s)))
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, lacking(LACKS[0]))
        done = command(*words)
    check(done, "a step of pix2pix at 96 px, batch 1, in precision fp32", "generator.base=")
    if name == "translate":  # after some steps
        again = command(*words)
        assert again.code == 0, again.err


def test_a_prediction_says_what_to_lower(
    command: CommandLine, small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: RunFolder = make_run(tmp_path / "run", small_store)
    words = ("predict", "--run", run.path, "--view", "x1", "--device", "cpu", "--gates")
    for owner, name in ((Compute, "place"), (predict_module, "translate")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, lacking(LACKS[1]))
            check(command(*words), "pictures of 64 px, 1 at a time", "a --view of smaller pictures, or --device cpu")
    with monkeypatch.context() as patch:
        patch.setattr(predict_module, "batches_change_nothing", lacking(LACKS[2]))
        check(command(*words, "--batch", 4), "pictures of 64 px, 4 at a time", "or use --batch 2, or a --view")
    with monkeypatch.context() as patch:
        patch.setattr(attention_maps, "attention_maps_of", lacking(LACKS[3]))
        check(command(*words), "pictures of 64 px, 1 at a time", "--device cpu")
    assert command(*words).code == 0


def test_what_to_lower_keeps_the_effective_batch() -> None:
    settings = TrainSettings(precision=Precision.FP32, data=DataSettings(batch=6, accumulate=2))
    assert step_of(settings, 512) == "a step of attention_gan at 512 px, batch 6, in precision fp32"
    assert "data.batch=3 and data.accumulate=4, or precision=bf16, or a store with" in smaller_step(settings)
    odd = replace(settings, precision=Precision.BF16, data=DataSettings(batch=5))
    assert "data.batch=1 and data.accumulate=5, or a store with a smaller view_side" in smaller_step(odd)
    assert "data.batch" not in smaller_step(TrainSettings())
    assert "generator.base=32" in smaller_step(TrainSettings())
    assert "--batch" not in smaller_pictures(1)


def test_workspaces_are_bounded_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDNN_CONV_WSCAP_DBG", raising=False)
    bound_workspaces()
    assert os.environ["CUDNN_CONV_WSCAP_DBG"] == str(WORKSPACE_MIB)
    monkeypatch.setenv("CUDNN_CONV_WSCAP_DBG", "256")
    bound_workspaces()
    assert os.environ["CUDNN_CONV_WSCAP_DBG"] == "256"
