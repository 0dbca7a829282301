"""The figure of one pair: what it shows, which pair it takes, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluate.__main__ import app
from evaluate.report.figure import SIDE, draw_figure, median_row
from store.images import read_picture
from store.reader import Store
from store.run_files import RunFolder
from store.schema import RunError, Split, Stain
from store.stain.dab import mean_dab
from tests.support.command_line import CommandLine
from tests.support.predictions import fabricate

VIEWS = ("x1", "x2", "x4")


@pytest.fixture
def run(small_store: Store, tmp_path: Path) -> Path:
    """A run with predictions of every view."""
    for view in VIEWS:
        fabricate(tmp_path / "run", small_store, view)
    return tmp_path / "run"


def holds(figure: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a figure shows a picture at twice its side, pixel by pixel."""
    enlarged = picture.repeat(SIDE // picture.shape[0], axis=0).repeat(SIDE // picture.shape[1], axis=1)
    first, last = enlarged[0], enlarged[-1]
    high, wide = SIDE, SIDE
    for top in range(figure.shape[0] - high):
        for left in range(24, figure.shape[1] - wide, 268):
            if np.array_equal(figure[top, left : left + wide], first) and np.array_equal(
                figure[top + high - 1, left : left + wide], last
            ):
                return np.array_equal(figure[top : top + high, left : left + wide], enlarged)
    return False


def test_a_figure_shows_he_real_and_translated_ihc_of_every_view(small_store: Store, run: Path) -> None:
    figure = draw_figure(run, small_store, Split.TEST, 1)
    for view in VIEWS:
        translated = read_picture(RunFolder(run).predictions(Split.TEST, view).rounded / "s3_1_0.png")
        for picture in (*(small_store.picture(Split.TEST, view, stain, 1) for stain in Stain), translated):
            assert holds(figure, picture), view
        assert not holds(figure, small_store.picture(Split.TEST, view, Stain.IHC, 2))


def test_the_pair_of_a_figure_has_the_median_dab(small_store: Store) -> None:
    dab = [mean_dab(small_store.picture(Split.TEST, "x1", Stain.IHC, row)) for row in range(4)]
    assert sum(value < dab[median_row(small_store, Split.TEST)] for value in dab) == 1
    with pytest.raises(RunError, match=r"has no val pairs; it has train \(8\), test \(4\)"):
        median_row(small_store, Split.VAL)


def test_every_view_of_the_store_must_be_predicted_by_one_state_of_the_run(small_store: Store, tmp_path: Path) -> None:
    fabricate(tmp_path / "run", small_store, "x1")
    with pytest.raises(RunError, match=r"no predictions in .*x2; make them with: .* --view x2"):
        draw_figure(tmp_path / "run", small_store, Split.TEST, 0)
    for view in ("x2", "x4"):
        record = fabricate(tmp_path / "run", small_store, view) / "predictions.json"
    record.write_text(record.read_text().replace('"pairs_seen": ', '"pairs_seen": 9'))
    with pytest.raises(RunError, match=r"from different stages of its training \(.* pairs seen, .* pairs seen\)"):
        draw_figure(tmp_path / "run", small_store, Split.TEST, 0)


def test_the_command_writes_jpeg_or_png(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = CommandLine("evaluate", app, monkeypatch, capsys)
    for suffix in (".jpg", ".PNG"):
        file = tmp_path / "figures" / f"one{suffix}"
        done = line("figure", "--run", run, "--out", file)
        assert (done.code, done.out) == (0, "")
        assert done.err.endswith(f"wrote {file}\n")
        assert read_picture(file).shape[2] == 3
    named = line("figure", "--run", run, "--pair", "s3_9_0", "--out", tmp_path / "x.jpg")
    assert (named.code, named.err.count("\n")) == (2, 1)
    assert "no pair 's3_9_0' in test" in named.err
    wrong = line("figure", "--run", run, "--out", tmp_path / "x.gif")
    assert wrong.code == 2
    assert "x.gif: a figure is written as .jpg, .jpeg, .png" in wrong.err
    assert not (tmp_path / "x.gif").exists()
