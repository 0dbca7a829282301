"""A set of predictions under damage, kills, two commands at once and stores that the run does not own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from store.files import digest_file, sync_all, write_json
from store.images import read_picture, write_png
from store.reader import Store
from store.records import exchange as exchange_module
from store.records.lock import held
from store.records.predictions import load_predictions, place_of
from store.run_files import PredictionFolder, RunFolder
from store.schema import RunError, Split, StoreError
from tests.support.file_systems import REFUSED, keep_open_files, refuse_folder_sync
from tests.support.records import rewrite
from tests.support.stores import build_small_store
from tests.support.untrained_run import make_run
from train import predict as predict_module
from train.predict import Predicted, predict
from train.run import picture_set
from train.run.generator_file import load_generator
from train.run.inference import translate

VIEW = "x1"


@pytest.fixture
def run(small_store: Store, tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run", small_store)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def translated(run: RunFolder, store: Store) -> Predicted:
    return predict(run, store, Split.TEST, VIEW, "cpu")


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)


def _exchange(file: Path) -> None:
    shutil.copy(file.with_name("s3_0_0.png"), file)


def _repaint(file: Path) -> None:
    """A picture that is whole in itself, one grey level from what was predicted."""
    pixels = read_picture(file).copy()
    pixels[3, 5, 1] ^= 1
    write_png(file, pixels)


@pytest.mark.parametrize("kind", ["fake", "fake_truncated"])
@pytest.mark.parametrize(
    "damage", [_flip, _exchange, _repaint, Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-9])]
)
def test_a_damaged_picture_is_made_again_and_said_and_its_scores_stay(
    run: RunFolder,
    small_store: Store,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    damage: Callable[[Path], object],
) -> None:
    place = translated(run, small_store).folder
    (place / "scores.json").write_text("{}")
    before = listing(run.path)
    damage(place / kind / "s3_2_0.png")
    assert not translated(run, small_store).already_existed
    assert "1 of 4 predictions are missing or damaged, made again: s3_2_0.png" in capsys.readouterr().err
    assert listing(run.path) == before
    assert translated(run, small_store).already_existed


def test_pictures_that_come_out_otherwise_are_all_made_again(
    run: RunFolder, small_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on another device: a set is never of two."""
    place = PredictionFolder(translated(run, small_store).folder)
    before = load_predictions(place, "")
    place.rounded.joinpath("s3_2_0.png").unlink()
    (place.path / "scores.json").write_text("{}")
    plain = translate
    monkeypatch.setattr(predict_module, "translate", lambda *words, seed: plain(*words, seed=seed) * 0.9)
    translated(run, small_store)
    assert "all pictures are made again" in capsys.readouterr().err
    after = load_predictions(place, "")
    assert after.plan == before.plan
    assert after.rounded is not None
    assert before.rounded is not None
    assert not set(after.rounded) & set(before.rounded)
    assert not picture_set.damaged_pictures(place, after)
    assert not place.scores.exists()


def test_a_damaged_record_and_one_of_an_earlier_version(run: RunFolder, small_store: Store) -> None:
    place = PredictionFolder(translated(run, small_store).folder)
    before = listing(run.path)
    _flip(place.record)
    assert not translated(run, small_store).already_existed
    assert listing(run.path) == before
    rewrite(place.record, {"rounded": None, "truncated": None})
    old = listing(run.path)
    assert translated(run, small_store).already_existed
    assert listing(run.path) == old
    _flip(place.truncated / "s3_1_0.png")
    assert not translated(run, small_store).already_existed
    assert listing(run.path) == old


class Killed(BaseException):
    """What stops a process at once, here in its own code."""


CALLS = (  # every call that writes, renames or removes while a set is made
    (picture_set, "write_png"),
    (picture_set, "digest_file"),
    (picture_set, "write_json"),
    (picture_set, "sync_all"),
    (exchange_module, "sync"),
    (shutil, "rmtree"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "unlink"),
    (os, "fsync"),
)


def test_a_kill_at_any_call_leaves_a_whole_set_and_the_same_command_finishes(
    small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old set of another generator stays whole until the new one is; what is resumed has the same bytes."""
    old, new = (make_run(tmp_path / name, small_store, seed=seed) for name, seed in (("old", 0), ("new", 1)))
    whole = {name: listing(translated(run, small_store).folder) for name, run in (("old", old), ("new", new))}
    trained = {digest_file(run.generator): load_generator(run.generator) for run in (old, new)}
    monkeypatch.setattr(predict_module, "load_generator", lambda file: trained[digest_file(file)])
    outcomes, at, every = set(), 0, False
    while not every:
        run = RunFolder(tmp_path / "run")
        shutil.copytree(old.path, run.path)
        (run.predictions("test", VIEW).path / "scores.json").write_text("{}")
        shutil.copy(new.generator, run.generator)
        with monkeypatch.context() as patch:
            counter = iter(range(10**6))
            for owner, name in CALLS:
                patch.setattr(owner, name, _killing(getattr(owner, name), counter, at))
            try:
                translated(run, small_store)
                every = True
            except Killed:
                pass
        place = run.predictions("test", VIEW).path
        if place.exists():
            held_now = listing(place)
            is_old = held_now == whole["old"] | {"scores.json": b"{}"}
            assert is_old or held_now == whole["new"], at
            outcomes.add("old" if is_old else "new")
        else:
            outcomes.add("between")
            assert listing(exchange_module.aside(place)).items() >= whole["old"].items()
        translated(run, small_store)
        assert listing(run.path / "predictions") == {f"test/{VIEW}/{name}": data for name, data in whole["new"].items()}
        shutil.rmtree(run.path)
        at += 1 if at < 8 or at > 35 else 4  # every call of the first picture and of the end
    assert at > 45
    assert outcomes == {"old", "new", "between"}


def _killing(call: Callable[..., object], counter: object, at: int) -> Callable[..., object]:
    def counted(*words: object, **named: object) -> object:
        if next(counter) >= at:  # type: ignore[call-overload]  # an iterator
            raise Killed
        return call(*words, **named)

    return counted


def test_a_resumed_set_takes_over_only_what_was_written(
    run: RunFolder, small_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = listing(translated(run, small_store).folder)
    shutil.rmtree(run.path / "predictions")
    plain, calls = translate, list[int]()

    def counted(generator: torch.nn.Module, he: np.ndarray, device: torch.device, seed: int) -> torch.Tensor:
        calls.append(seed)
        if calls == [0, 1, 2, 3]:
            raise Killed
        return plain(generator, he, device, seed=seed)

    monkeypatch.setattr(predict_module, "translate", counted)
    with pytest.raises(Killed):
        translated(run, small_store)
    beside = picture_set.beside(run.predictions("test", VIEW))
    _exchange(beside.rounded / "s3_1_0.png")
    with (beside.path / "made.jsonl").open("a") as journal:
        journal.write('["s3_3_0.png", "')
    translated(run, small_store)
    assert calls == [0, 1, 2, 3, 1, 3]  # the exchanged one, and the one that was being made
    assert listing(run.predictions("test", VIEW).path) == whole


def test_pictures_are_synced_before_the_record(
    run: RunFolder, small_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = list[str]()

    def syncing(files: object) -> None:
        listed = list(files)  # type: ignore[call-overload]  # an iterable
        happened.extend(file.name for file in listed)
        sync_all(listed)

    def writing(file: Path, record: object) -> None:
        happened.append(file.name)
        write_json(file, record)

    monkeypatch.setattr(picture_set, "sync_all", syncing)
    monkeypatch.setattr(picture_set, "write_json", writing)
    translated(run, small_store)
    pictures = [name for tile in range(4) for name in [f"s3_{tile}_0.png"] * 2]
    assert happened == ["predictions.json", *pictures, "predictions.json"]  # the first is the plan, beside


def test_of_two_at_once_the_second_is_refused_and_changes_nothing(run: RunFolder, small_store: Store) -> None:
    place = PredictionFolder(translated(run, small_store).folder)
    before = listing(run.path)
    with held(place):
        with pytest.raises(StoreError, match=r"the set of predictions .*x1 is being used by another process; wait"):
            translated(run, small_store)
        predict(run, small_store, Split.TEST, "x2", "cpu")  # another view is free
    shutil.rmtree(run.predictions("test", "x2").path)
    assert listing(run.path) == before
    used = pytest.raises(StoreError, match="is being used by another process")
    with held(place, shared=True), held(place, shared=True), used:
        translated(run, small_store)
    assert listing(run.path) == before
    assert translated(run, small_store).already_existed


def test_another_store_has_its_own_place_and_deletes_nothing(
    run: RunFolder, small_store: Store, tmp_path: Path
) -> None:
    others = [build_small_store(tmp_path / f"{n}.zarr", tile_side=128 + 64 * n) for n in (1, 2)]
    assert len({store.manifest.name for store in (small_store, *others)}) == 1
    own = translated(run, small_store).folder
    before = listing(own)
    places = [translated(run, store).folder for store in others]
    assert len({own, *places}) == 3
    assert own == run.predictions("test", VIEW).path
    for place, store in zip(places, others, strict=True):
        assert place.relative_to(run.path).parts[1:] == (f"small-{store.manifest.seal[:12]}", "test", VIEW)
        assert load_predictions(PredictionFolder(place), "").seal == store.manifest.seal
        assert translated(run, store).already_existed
    assert listing(own) == before
    assert translated(run, small_store).already_existed


def test_a_name_of_a_store_never_leads_out_of_the_run(run: RunFolder) -> None:
    for name in ("../../x", "/etc", "a/b", "..", "", "test", "ü" * 300):
        place = place_of(run, name, "ef" * 32, "test", VIEW).path
        assert place.relative_to(run.path / "predictions").parts[1:] == ("test", VIEW)
        assert ".." not in place.parts
        assert len(place.parts[-3]) <= 60


def test_a_run_without_a_store_keeps_those_of_its_first_store_in_place(
    run: RunFolder, small_store: Store, tmp_path: Path
) -> None:
    rewrite(run.facts, {"store": None, "seal": None})  # as of an import
    other = build_small_store(tmp_path / "other.zarr", tile_side=192)
    first = translated(run, small_store).folder
    second = translated(run, other).folder
    assert (first, second.parts[-3]) == (run.predictions("test", VIEW).path, f"small-{other.manifest.seal[:12]}")
    first.rename(exchange_module.aside(first))  # a kill in the middle of an exchange
    assert place_of(run, "small", other.manifest.seal, "test", VIEW).path == second
    assert translated(run, small_store).already_existed


def test_a_damaged_run_record_names_the_file(run: RunFolder, small_store: Store) -> None:
    run.facts.write_text(run.facts.read_text().replace('"seal": "', '"seal": "x', 1)[:-1])
    with pytest.raises(RunError, match=r"run\.json"):
        translated(run, small_store)


def test_new_predictions_take_the_place_of_open_ones(
    run: RunFolder, small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS keeps what a program has open, under another name that nobody can remove."""
    place = translated(run, small_store).folder
    other = make_run(tmp_path / "other", small_store, seed=1)
    whole = listing(translated(other, small_store).folder)
    for kind in ("fake", "fake_truncated"):
        (place / kind / ".nfs000000000123").write_bytes(b"open")
    leftover = picture_set.beside(PredictionFolder(place)).path
    (leftover / "fake").mkdir(parents=True)  # of a start that was killed, with another generator
    (leftover / "fake/.nfs000000000124").write_bytes(b"open")
    shutil.copy(other.generator, run.generator)
    with monkeypatch.context() as patch:
        keep_open_files(patch)
        assert not translated(run, small_store).already_existed
        assert listing(place) == whole
        assert translated(run, small_store).already_existed
        assert len([*place.parent.glob("x1.*.held-*")]) == 2
    translated(run, small_store)
    shutil.copy(tmp_path / "other" / run.generator.name, run.generator)
    shutil.rmtree(place)
    translated(run, small_store)
    assert listing(place.parent) == {f"x1/{name}": data for name, data in whole.items()}


@pytest.mark.parametrize("number", REFUSED)
def test_predictions_are_made_where_folders_cannot_be_synced(
    run: RunFolder, small_store: Store, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_folder_sync(monkeypatch, number)
    assert translated(run, small_store).pictures == 4
    assert translated(run, small_store).already_existed
