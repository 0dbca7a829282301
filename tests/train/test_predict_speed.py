"""What keeps a device busy while pictures are translated: work beside it, batches, a start without what is not used."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from store.images import write_png
from store.reader import Store
from store.run_files import RunFolder
from store.schema import Split, StoreError
from tests.support.command_line import CommandLine
from tests.support.places import ROOT
from tests.support.predictions import contents
from tests.support.untrained_run import SETTINGS, make_run
from train import predict as predict_module
from train.__main__ import app
from train.methods.outline import build_outline
from train.methods.registry import METHODS, build_method
from train.predict import predict
from train.run import picture_set
from train.run.generator_file import load_generator
from train.run.inference import batches_change_nothing, translate, translate_batch
from train.runtime.device import resolve
from train.settings import Precision, TrainSettings

CPU = torch.device("cpu")
PATIENCE = 60  # s, after which something that must happen does not
HEAVY = ("torch._dynamo", "torch._inductor", "sympy", "triton", "skimage", "scipy", "tensorboard")


@pytest.fixture
def run(small_store: Store, tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run", small_store)


class Pointwise(nn.Module):
    """A generator that gives the same bits in every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = list[int]()

    def forward(self, he: Tensor) -> Tensor:
        self.sizes.append(len(he))
        return he * he * 0.7 - 0.3


@pytest.fixture
def pointwise(monkeypatch: pytest.MonkeyPatch) -> Pointwise:
    """The generator of every file."""
    generator = Pointwise()
    monkeypatch.setattr(
        predict_module, "load_generator", lambda file: replace(load_generator(file), generator=generator)
    )
    return generator


def test_a_picture_is_encoded_and_the_next_read_while_one_is_translated(
    run: RunFolder, small_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing, read = ([threading.Event() for _ in range(4)] for _ in range(2))

    def writing(path: Path, pixels: NDArray[np.uint8]) -> None:
        if path.name == "s3_0_0.png":
            assert drawing[1].wait(PATIENCE), "the second picture waits for the files of the first"
        write_png(path, pixels)

    def translating(generator: nn.Module, he: NDArray[np.uint8], device: torch.device, seed: int) -> Tensor:
        drawing[seed].set()
        assert read[min(3, seed + 1)].wait(PATIENCE), "the next picture is not read before it is needed"
        return translate(generator, he, device, seed=seed)

    class Watched(Store):
        def picture(self, *words: object) -> NDArray[np.uint8]:
            pixels = super().picture(*words)  # type: ignore[arg-type]  # as they are
            read[int(words[3])].set()  # type: ignore[call-overload]  # the row
            return pixels

    monkeypatch.setattr(predict_module, "translate", translating)
    monkeypatch.setattr(picture_set, "write_png", writing)
    made = predict(run, Watched(small_store.path, small_store.manifest), Split.TEST, "x1", "cpu")
    assert len(list(made.folder.rglob("*.png"))) == 8


def test_a_disk_that_fills_in_a_thread_is_one_line_and_the_same_command_goes_on(
    run: RunFolder, small_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = CommandLine("train", app, monkeypatch, capsys)
    words = ("predict", "--run", run.path, "--store", small_store.path, "--view", "x1", "--device", "cpu")
    assert command(*words).code == 0
    whole = contents(run.path / "predictions")
    (run.predictions("test", "x1").path).rename(run.path / "aside")

    def filling(path: Path, pixels: NDArray[np.uint8]) -> None:
        if path.name == "s3_2_0.png":
            raise StoreError(f"{path}: cannot be written (No space left on device); free space")
        write_png(path, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(picture_set, "write_png", filling)
        done = command(*words)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "cannot be written (No space left on device)" in done.err.splitlines()[-1]
    assert command(*words).code == 0
    assert contents(run.path / "predictions") == whole


@pytest.mark.parametrize("batch", [2, 3, 4, 9])
def test_batches_have_the_bytes_of_single_pictures(
    run: RunFolder, small_store: Store, pointwise: Pointwise, batch: int
) -> None:
    made = predict(run, small_store, Split.TEST, "x1", "cpu")
    assert pointwise.sizes == [1, 1, 1, 1]
    whole = contents(made.folder)
    (made.folder / "predictions.json").unlink()
    pointwise.sizes.clear()
    made = predict(run, small_store, Split.TEST, "x1", "cpu", batch)
    assert contents(made.folder) == whole
    tried = [batch, *[1] * batch]
    assert pointwise.sizes == tried + [batch] * (4 // batch) + [1] * (4 % batch)


def test_where_a_batch_changes_a_bit_pictures_are_translated_one_by_one(
    run: RunFolder, small_store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "batches_change_nothing", lambda *_: False)
    whole = contents(predict(run, small_store, Split.TEST, "x1", "cpu").folder)
    assert "one by one" not in capsys.readouterr().err
    monkeypatch.setattr(predict_module, "translate_batch", None)
    (run.predictions("test", "x1").record).unlink()
    assert contents(predict(run, small_store, Split.TEST, "x1", "cpu", 2).folder) == whole
    said = capsys.readouterr().err
    assert "2 pictures in one pass do not come out as they do one by one: they are translated one by one" in said


class OneUnitMore(nn.Module):
    """A generator whose last bit depends on the batch."""

    def forward(self, he: Tensor) -> Tensor:
        return torch.nextafter(he, torch.ones(())) if len(he) > 1 else he


@pytest.mark.parametrize(
    ("generator", "same"),
    [
        (Pointwise(), True),
        (OneUnitMore(), False),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), False),
        (nn.Dropout(0.01), False),
    ],
)
def test_whether_batches_change_a_bit_is_tried(generator: nn.Module, same: bool) -> None:
    assert batches_change_nothing(generator, 3, (16, 16), CPU) == same


def test_a_batch_is_the_pictures_of_it() -> None:
    generator = nn.Conv2d(3, 3, 3, padding=1)
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), np.uint8))
    for one, picture in zip(translate_batch(generator, pictures, CPU), pictures, strict=True):
        assert one.shape == (20, 20, 3)
        torch.testing.assert_close(one, translate(generator, picture, CPU))


@pytest.mark.parametrize("searched", [4, 5])
def test_algorithms_are_searched_for_large_sets_only(
    run: RunFolder, small_store: Store, monkeypatch: pytest.MonkeyPatch, searched: int
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not torch.backends.cudnn.benchmark)
    monkeypatch.setattr(predict_module, "SEARCHED", searched)
    predict(run, small_store, Split.TEST, "x1", "cpu")
    assert torch.backends.cudnn.benchmark == (searched == 4)
    resolve("cpu", Precision.FP32).configure()


def kinds(module: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (one.shape, one.dtype) for name, one in module.state_dict().items() if isinstance(one, Tensor)}


@pytest.mark.parametrize("method", METHODS)
def test_an_outline_has_the_names_shapes_and_types_of_the_networks(method: str) -> None:
    settings = replace(TrainSettings(), method=method, generator=replace(SETTINGS.generator, depth=5))
    outline, whole = build_outline(settings).modules(), build_method(settings).modules()
    assert outline.keys() == whole.keys()
    for name, module in whole.items():
        kinds = [
            {
                key: (tensor.shape, tensor.dtype)
                for key, tensor in one.state_dict().items()
                if isinstance(tensor, Tensor)
            }
            for one in (outline[name], module)
        ]
        assert kinds[0] == kinds[1]
        assert all(parameter.is_meta for parameter in outline[name].parameters())


def test_a_translation_imports_no_compiler(run: RunFolder, small_store: Store) -> None:
    script = "import atexit, runpy, sys; atexit.register(lambda: print(*sys.modules)); "
    script += "runpy.run_module('train', run_name='__main__')"
    words = ["predict", "--run", str(run.path), "--store", str(small_store.path), "--view", "x1", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert {"torch", "train.predict"} <= imported
    assert sorted(imported & set(HEAVY)) == []
