"""`python -m evaluate`: what it prints, what it writes, how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evaluate.__main__ import app
from evaluate.features.weights import require_all
from evaluate.protocol import FAKE
from evaluate.report.table_texts import markdown
from evaluate.scores_file import read_scores
from evaluate.scoring import score
from store.reader import Store
from store.schema import Split, WeightsError
from tests.support.command_line import CommandLine
from tests.support.places import ROOT
from tests.support.predictions import contents, fabricate, without_weights


def test_the_command_line_scores_a_run_and_makes_a_table(
    small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = CommandLine("evaluate", app, monkeypatch, capsys)
    folder = fabricate(tmp_path / "a run", small_store)
    done = line("score", "--run", tmp_path / "a run")
    assert done.code == 0, done.err
    assert {file.name for file in folder.iterdir() if file.is_file()} == {
        "predictions.json",
        "scores.json",
        "contact.png",
    }
    assert all(str(folder / name) in done.err for name in ("scores.json", "contact.png"))
    table = line("table", "--run", tmp_path / "a run", "--out", tmp_path / "tables")
    assert table.code == 0, table.err
    text = (tmp_path / "tables" / "table.md").read_text(encoding="utf-8")
    of_score, of_table = done.out.splitlines(), table.out.splitlines()
    assert of_score[:-1] == of_table[:-1]
    assert of_table[-1] == f"With intervals: {tmp_path / 'tables' / 'table.md'}"
    command = f"python -m evaluate table --run {tmp_path / 'a run'} --out DIR"
    assert of_score[-1] == f"With intervals: table.md of `{command}`"
    assert max(map(len, of_score[:-1])) <= 100
    assert markdown([read_scores(tmp_path / "a run", Split.TEST, "tile")]) == text
    assert {file.name for file in (tmp_path / "tables").iterdir()} == {"table.md", "table.csv", "table.tex"}
    report = line("report", "--run", tmp_path / "a run", "--paper", "II")
    assert report.code == 0, report.err
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "paper, MIST-HER2" not in text  # these are other pictures
    assert "rows are left out: its numbers are of MIST-HER2, and these pictures are drawn" in text


def test_a_device_without_memory_is_one_line(
    small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory\nand a page of advice")

    monkeypatch.setattr(score, "extract", lacking)
    fabricate(tmp_path / "run", small_store)
    done = CommandLine("evaluate", app, monkeypatch, capsys)("score", "--run", tmp_path / "run")
    assert done.code == 2
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1] == (
        "error: not enough memory for the feature networks (CUDA error: out of memory); stop other programs on the "
        "device and run the same command again, or add --device cpu"
    )


def test_required_weights_that_are_missing_are_an_error(tmp_path: Path) -> None:
    message = r"missing: alexnet-owt-7be5be79\.pth, vgg16-397923af\.pth.*make weights NAMES=evaluate"
    with pytest.raises(WeightsError, match=message):
        require_all(without_weights(tmp_path).networks)


def test_the_command_line_ends_with_code_2_and_one_line_on_bad_input(
    small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fabricate(tmp_path / "run", small_store)
    for name in ("s3_0_0.png", "s3_2_0.png"):
        (folder / FAKE / name).unlink()
    before = contents(tmp_path)
    refused = CommandLine("evaluate", app, monkeypatch, capsys)("score", "--run", tmp_path / "run")
    last = refused.err.splitlines()[-1]
    assert (refused.code, refused.out) == (2, "")
    assert last.startswith("error: ")
    assert "s3_0_0.png; s3_2_0.png" in last
    assert "Traceback" not in refused.err
    assert contents(tmp_path) == before


def test_what_takes_seconds_to_import_is_imported_where_it_is_needed() -> None:
    """Tables and the page are text, worker processes see pixels, and networks without weights are never built."""
    program = """
import sys
def held(): print([name for name in ("torch", "torchvision", "lpips", "torch_fidelity") if name in sys.modules])
import evaluate.__main__, evaluate.parallel
print("numpy" in sys.modules)
import evaluate.report.table_texts, evaluate.report.html_page, evaluate.metrics.pictures
held()
import evaluate.scoring.score
held()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False", "[]", "['torch']"]
