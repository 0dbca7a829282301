"""Scores are of one set of pictures: table, page and contact sheet show no number beside a picture of another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluate.__main__ import app
from evaluate.features.extract import Features
from evaluate.inputs.image_set import ImageSet
from evaluate.metrics.standing import Standing
from evaluate.scoring import score as score_module
from evaluate.scoring.per_image import ImageScores, score_images
from store.files import digest_file
from store.images import read_picture, write_png
from store.reader import Store
from store.records.lock import held
from store.records.predictions import place_of
from store.run_files import PredictionFolder, RunFolder
from store.schema import Split
from tests.support.command_line import CommandLine, Outcome
from tests.support.predictions import fabricate
from tests.support.records import rewrite, sign, unsigned
from tests.support.stores import build_small_store

VIEW = "x1"
Run = Callable[..., Outcome]


@pytest.fixture
def place(small_store: Store, tmp_path: Path) -> PredictionFolder:
    """The predictions of a run, with their digests."""
    folder = PredictionFolder(fabricate(tmp_path / "run", small_store, VIEW))
    sign(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command on that run; the last line of what it says on stderr."""
    line = CommandLine("evaluate", app, monkeypatch, capsys)
    return lambda verb, *words: line(verb, "--run", tmp_path / "run", "--view", VIEW, *words)


def repaint(file: Path) -> None:
    """Another picture, as whole as the first."""
    pixels = read_picture(file).copy()
    pixels[3, 5, 1] ^= 1
    write_png(file, pixels)


def refused(done: Outcome, *said: str) -> None:
    last = done.err.splitlines()[-1]
    assert (done.code, done.out, last[:7]) == (2, "", "error: ")
    assert all(text in last for text in said), last


def test_scores_name_the_set_that_they_judged(place: PredictionFolder, run: Run) -> None:
    assert run("score").code == 0
    scores = unsigned(place.scores)
    assert scores["predictions"] == digest_file(place.record)
    assert scores["contents"] == [digest_file(place.rounded / f"s3_{tile}_0.png") for tile in range(4)]
    for verb in ("table", "report"):
        assert run(verb).code == 0
    assert {file.name for file in place.path.iterdir() if file.is_file()} == {
        "predictions.json", "scores.json", "contact.png", "report.html", "table.md", "table.csv", "table.tex"
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["fake", "fake_truncated"])
def test_a_picture_that_was_not_predicted_is_not_scored(place: PredictionFolder, run: Run, kind: str) -> None:
    repaint(place.path / kind / "s3_2_0.png")
    refused(run("score"), "1 of 4 predictions", "predict them again", "s3_2_0.png: is not the picture")
    assert not place.scores.exists()


def test_a_picture_exchanged_after_scoring_is_not_shown(place: PredictionFolder, run: Run) -> None:
    assert run("score").code == 0
    shutil.copy(place.rounded / "s3_0_0.png", place.rounded / "s3_1_0.png")
    refused(run("report"), "s3_1_0.png was changed or exchanged", "predict again, then score again")
    assert not place.report.exists()


def test_numbers_of_one_generator_never_stand_beside_another(place: PredictionFolder, run: Run, tmp_path: Path) -> None:
    """The run was predicted again by another generator, and its old scores came back."""
    assert run("score").code == 0
    sign(place, generator="cd" * 32)
    for verb in ("table", "report"):
        refused(run(verb, "--out", tmp_path / "out"), "scores.json is of other pictures", "score again")
    assert not (tmp_path / "out").exists()
    assert run("score").code == 0
    assert run("table").code == 0


@pytest.mark.parametrize("change", ["picture", "record", "both"])
def test_what_changes_while_it_is_scored_is_refused(
    place: PredictionFolder, run: Run, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    plain = score_images

    def changing(images: ImageSet, standing: Standing, features: Features, workers: int) -> list[ImageScores]:
        scored = plain(images, standing, features, workers)
        if change != "record":
            repaint(place.rounded / "s3_1_0.png")
        if change != "picture":
            sign(place, generator="cd" * 32)
        return scored

    monkeypatch.setattr(score_module, "score_images", changing)
    refused(run("score"), str(place.path))
    assert not place.scores.exists()
    assert not place.contact_sheet.exists()


def test_a_changed_bit_of_a_score_is_never_printed(place: PredictionFolder, run: Run) -> None:
    assert run("score").code == 0
    whole, data = run("table").out, place.scores.read_bytes()
    rng, refusals = np.random.default_rng(0), 0
    for spot in rng.choice(len(data), 60, replace=False):
        changed = bytearray(data)
        changed[spot] ^= 1 << int(rng.integers(8))
        place.scores.write_bytes(changed)
        done = run("table")
        assert done.out == whole or (done.code, "scores.json" in done.err) == (2, True), spot
        refusals += done.code == 2
    assert refusals > 55


def test_scores_of_an_earlier_version_are_shown_with_a_note_unless_their_generator_is_gone(
    place: PredictionFolder, run: Run
) -> None:
    assert run("score").code == 0
    new = run("table").out
    tree = unsigned(place.scores)
    del tree["predictions"], tree["contents"]
    place.scores.write_text("{}")
    rewrite(place.scores, tree)
    old = run("table")
    assert (old.code, old.out) == (0, new)
    assert "is of an earlier version and has no digest of its pictures; score again" in old.err
    assert run("report").code == 0
    sign(place, generator="cd" * 32)
    refused(run("table"), "score again")


def test_foreign_pictures_are_checked_too(place: PredictionFolder, run: Run, tmp_path: Path) -> None:
    shutil.copytree(place.rounded, tmp_path / "theirs")
    assert run("score", "--pictures", tmp_path / "theirs").code == 0
    assert run("report").code == 0
    repaint(tmp_path / "theirs" / "s3_3_0.png")
    refused(run("report"), "s3_3_0.png was changed or exchanged")


def test_two_at_once_are_told_apart(place: PredictionFolder, run: Run) -> None:
    with held(place):  # predict
        for verb in ("score", "table", "report"):
            refused(run(verb), "is being used by another process; wait for it or stop it")
    assert run("score").code == 0
    with held(place, shared=True):  # a table
        refused(run("score"), "is being used by another process; wait for it or stop it")
        assert (run("table").code, run("report").code) == (0, 0)
    assert not place.lock.exists()


def test_predictions_of_another_store_are_found_with_it(place: PredictionFolder, run: Run, tmp_path: Path) -> None:
    other = build_small_store(tmp_path / "other.zarr", tile_side=192)
    own = {file: file.read_bytes() for file in place.path.rglob("*") if file.is_file()}
    there = place_of(RunFolder(tmp_path / "run"), "small", other.manifest.seal, Split.TEST, VIEW)
    refused(run("score", "--store", other.path), "no predictions in", f"--store {other.address}")
    there.path.parent.mkdir(parents=True)
    fabricate(tmp_path / "foreign", other, VIEW).rename(there.path)
    sign(there)
    done = run("score", "--store", other.path)
    assert done.code == 0, done.err
    assert f"--store {other.address}" in done.out.splitlines()[-1]
    for verb in ("table", "report"):
        assert run(verb, "--store", other.path).code == 0
    assert (there.path / "table.md").is_file()
    assert there.report.is_file()
    assert {file: file.read_bytes() for file in place.path.rglob("*") if file.is_file()} == own
    refused(run("table"), "no scores in")


def test_a_figure_shows_only_what_was_predicted_by_one_generator(
    small_store: Store,
    place: PredictionFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = CommandLine("evaluate", app, monkeypatch, capsys)
    for view in ("x2", "x4"):
        sign(PredictionFolder(fabricate(tmp_path / "run", small_store, view)))
    words = ("--run", tmp_path / "run", "--pair", "s3_1_0", "--out", tmp_path / "figure.png")
    assert line("figure", *words).code == 0
    repaint(place.rounded / "s3_1_0.png")
    refused(line("figure", *words), "s3_1_0.png was changed or exchanged")
    sign(place, generator="cd" * 32)
    refused(line("figure", *words), "are from different stages of its training")
