"""From training to a program that knows nothing of magstain: examples/onnx_translate.py on the exported file."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from store.images import read_picture, write_png
from store.reader import Store
from store.run_files import RunFolder
from store.schema import Split, Stain
from tests.support.command_line import CommandLine
from tests.support.places import ROOT
from tests.support.tiny_run import NARROW, NARROW_CONTRAST, ONE_EPOCH
from train.__main__ import app

pytestmark = pytest.mark.usefixtures("one_thread")
EXAMPLE = ROOT / "examples" / "onnx_translate.py"


def test_the_example_is_short_and_needs_three_libraries() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    imported = {
        name.name.partition(".")[0] if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported == {"sys", "numpy", "onnxruntime", "PIL"}
    assert len(text.splitlines()) <= 25


def test_a_trained_generator_translates_as_predict_does(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = CommandLine("train", app, monkeypatch, capsys)
    folder, model = RunFolder(tmp_path / "run"), tmp_path / "g.onnx"
    settings = [*NARROW, *NARROW_CONTRAST, *ONE_EPOCH, "tensorboard=false", "data.views=['x1']", "data.batch=2"]
    words = [word for setting in settings for word in ("--set", setting)]
    assert train("fit", "--store", store.path, "--run", folder.path, *words).code == 0
    assert train("predict", "--run", folder.path, "--view", "x1").code == 0
    exported = train("export", "--run", folder.path, "--out", model)
    assert exported.code == 0, exported.err
    pair = store.pairs(Split.TEST)[0]
    he, out = tmp_path / "he.png", tmp_path / "ihc.png"
    write_png(he, store.picture(Split.TEST, "x1", Stain.HE, 0))
    done = subprocess.run(
        [sys.executable, "-I", EXAMPLE, model, he, out], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "method: attention_gan" in done.stdout
    assert "Not for clinical use" in done.stdout
    made, predicted = read_picture(out), read_picture(folder.predictions("test", "x1").rounded / f"{pair.id}.png")
    assert made.shape == predicted.shape == (96, 96, 3)
    assert predicted.std() > 5  # grey levels: a picture, not one colour
    assert np.abs(made.astype(int) - predicted).max() <= 1
    assert np.mean(made != predicted) < 0.01
