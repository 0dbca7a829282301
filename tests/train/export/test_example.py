"""From training to a program that knows nothing of magstain: examples/onnx_translate.py on the exported file."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
ORIENTATION = 274  # the tag of EXIF


def test_the_example_is_short_and_needs_three_libraries() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    imported = {
        name.name.partition(".")[0] if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported == {"argparse", "numpy", "onnxruntime", "PIL"}
    assert len(text.splitlines()) <= 28


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
    done = example(model, he, out)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote {out}: not for clinical use\n"
    made, predicted = read_picture(out), read_picture(folder.predictions("test", "x1").rounded / f"{pair.id}.png")
    assert made.shape == predicted.shape == (96, 96, 3)
    assert predicted.std() > 5  # grey levels: a picture, not one colour
    assert np.abs(made.astype(int) - predicted).max() <= 1
    assert np.mean(made != predicted) < 0.01

    turned, upright = tmp_path / "turned.png", tmp_path / "upright.png"
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned by 90 degrees
    Image.open(he).transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    assert example(model, turned, upright).returncode == 0
    assert np.array_equal(read_picture(upright), made)
    Image.open(he).convert("RGBA").save(he)  # of which no pixel is transparent
    assert example(model, he, upright).returncode == 0
    assert np.array_equal(read_picture(upright), made)

    new, empty, clear, deep = (tmp_path / name for name in ("new.png", "empty.png", "clear.png", "deep.png"))
    empty.touch()
    Image.new("RGBA", (64, 64), (9, 9, 9, 254)).save(clear)
    Image.fromarray(np.full((64, 64), 999, np.uint16)).save(deep)
    assert refusal(model, clear, new) == f"error: {clear}: save it as RGB of 8 bits without transparent pixels"
    assert refusal(model, deep, new).startswith(f"error: {deep}: save it as RGB of 8 bits")
    assert "empty.png" in refusal(model, empty, new)
    assert "gone.png" in refusal(model, tmp_path / "gone.png", new)
    assert "empty.png" in refusal(empty, he, new)
    assert not new.exists()


def test_without_its_three_files_the_usage_is_said() -> None:
    done = example("g.onnx", "he.png")
    assert (done.returncode, done.stdout) == (2, "")
    usage, told = done.stderr.splitlines()
    assert usage == "usage: onnx_translate.py [-h] GENERATOR HE IHC"
    assert told.endswith("required: IHC")


def refusal(*words: Path | str) -> str:
    """The one line that the example says of what it cannot do."""
    done = example(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    return done.stderr.rstrip()


def example(*words: Path | str) -> subprocess.CompletedProcess[str]:
    """The example in a process that knows nothing of the tree."""
    return subprocess.run(
        [sys.executable, "-I", EXAMPLE, *words], cwd=EXAMPLE.parent, capture_output=True, text=True, check=False
    )
