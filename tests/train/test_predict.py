"""Predictions: both roundings of one float output, complete or absent, from the right store, at any side."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from store.files import digest_file
from store.images import read_picture
from store.pairs.table import Pair
from store.reader import TILE, Store
from store.records.facts import open_store_of
from store.run_files import RunFolder
from store.schema import Interrupted, RunError, SettingsError, Split, Stain, StoreError
from tests.support.forgery import forge
from tests.support.records import rewrite, unsigned
from tests.support.stores import build_small_store
from tests.support.untrained_run import make_run
from train import predict as predict_module
from train.data.batch import to_signed
from train.predict import predict
from train.run.generator_file import FORMAT, load_generator
from train.run.inference import Levels, rounded, translate
from train.runtime.device import resolve
from train.settings import Precision

CPU = torch.device("cpu")


@pytest.fixture
def run(small_store: Store, tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run", small_store)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def levels(grey: list[float]) -> torch.Tensor:
    return torch.tensor(grey) / 127.5 - 1


def test_grey_levels_are_rounded_to_the_nearest_and_truncated_below() -> None:
    signed = levels([-20, 0, 0.4, 0.6, 63.4, 63.6, 128, 254.6, 255, 300])
    assert rounded(signed).tolist() == [0, 0, 0, 1, 63, 64, 128, 255, 255, 255]
    assert Levels.of(signed).truncated.tolist() == [0, 0, 0, 0, 63, 63, 128, 254, 255, 255]


def test_bytes_come_back_from_the_range_of_the_networks_as_they_were() -> None:
    every = np.arange(256, dtype=np.uint8)
    signed = to_signed(torch.from_numpy(every))
    np.testing.assert_array_equal(rounded(signed), every)


@pytest.mark.parametrize(("view", "side"), [(TILE, 128), ("x1", 64), ("x4", 64)])
def test_both_files_come_from_the_float_output_of_the_generator(
    run: RunFolder, small_store: Store, view: str, side: int
) -> None:
    made = predict(run, small_store, Split.TEST, view, "cpu")
    assert (made.folder, made.pictures, made.already_existed) == (run.predictions("test", view).path, 4, False)
    generator = resolve("cpu", Precision.FP32).place(load_generator(run.generator).generator)  # memory format as there
    apart = []
    for row, pair in enumerate(small_store.pairs(Split.TEST)):
        signed = translate(generator, small_store.picture(Split.TEST, view, Stain.HE, row), CPU)
        whole, cut = (read_picture(made.folder / kind / f"{pair.id}.png") for kind in ("fake", "fake_truncated"))
        assert whole.shape == cut.shape == (side, side, 3)
        np.testing.assert_array_equal(whole, rounded(signed))
        np.testing.assert_array_equal(cut, Levels.of(signed).truncated)
        inside = (cut > 0) & (cut < 254)
        apart.append(np.mean(whole[inside] != cut[inside]))
    assert 0.45 < np.mean(apart) < 0.55  # half of all levels have a fraction of a half or more


@pytest.mark.parametrize("name", ["../../../../../x", "{absolute}"])
def test_no_picture_is_written_outside_the_run(run: RunFolder, small_store: Store, tmp_path: Path, name: str) -> None:
    ids = [name.format(absolute=tmp_path / "x"), "b", "c", "d"]
    store = Store.open(forge(small_store, tmp_path / "s.zarr", columns={"test/pair/id": ids}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError, match="has a name that no file may have"):
        predict(run, store, Split.TEST, "x1", "cpu")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_translation_is_the_evaluation_mode_forward_pass(run: RunFolder, small_store: Store) -> None:
    generator = load_generator(run.generator).generator
    he = small_store.picture(Split.TEST, "x1", Stain.HE, 2)
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    with torch.no_grad():
        plain = generator(torch.from_numpy(he.transpose(2, 0, 1).copy())[None].float() / 127.5 - 1)
    torch.testing.assert_close(translate(generator, he, CPU), plain[0].permute(1, 2, 0), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


def test_the_record_says_what_was_made_from_what(run: RunFolder, small_store: Store) -> None:
    made = predict(run, small_store, Split.TEST, "x2", "cpu")
    assert unsigned(made.folder / "predictions.json") == {
        "method": "attention_gan",
        "seal": small_store.manifest.seal,
        "split": "test",
        "view": "x2",
        "pairs_seen": 80,
        "step": 80,
        "upscaler": "lanczos",
        "synthetic": True,
        "generator": digest_file(run.generator),
        "pictures": [f"s3_{tile}_0.png" for tile in range(4)],
        "rounded": [digest_file(made.folder / "fake" / f"s3_{tile}_0.png") for tile in range(4)],
        "truncated": [digest_file(made.folder / "fake_truncated" / f"s3_{tile}_0.png") for tile in range(4)],
        "views": ["x1", "x2", "x4"],
    }
    assert [path.name for path in made.folder.parent.iterdir()] == ["x2"]


def test_several_pictures_of_a_pair_are_numbered(tmp_path: Path) -> None:
    store = build_small_store(tmp_path / "s.zarr", boxes=2)
    made = predict(make_run(tmp_path / "run", store), store, Split.TEST, "x4", "cpu")
    assert made.pictures == 8
    assert sorted(file.name for file in (made.folder / "fake").iterdir())[:2] == ["s3_0_0.0.png", "s3_0_0.1.png"]


class Renamed(Store):
    """The small store with pair names as people give them."""

    def pairs(self, split: Split) -> tuple[Pair, ...]:
        names = ("Fall 7/größe 'a'", "a b", "日本", 'q"1')
        return tuple(replace(pair, id=name) for pair, name in zip(super().pairs(split), names, strict=True))


def test_names_with_folders_spaces_quotes_and_other_letters_are_kept(run: RunFolder, small_store: Store) -> None:
    made = predict(run, Renamed(small_store.path, small_store.manifest), Split.TEST, TILE, "cpu")
    names = ["Fall 7/größe 'a'.png", "a b.png", "日本.png", 'q"1.png']
    assert json.loads((made.folder / "predictions.json").read_text(encoding="utf-8"))["pictures"] == names
    for kind in ("fake", "fake_truncated"):
        found = {file.relative_to(made.folder / kind).as_posix() for file in (made.folder / kind).rglob("*.png")}
        assert found == set(names)


def test_complete_predictions_are_kept_and_incomplete_ones_made_again(run: RunFolder, small_store: Store) -> None:
    made = predict(run, small_store, Split.TEST, TILE, "cpu")
    (made.folder / "scores.json").write_text("{}")
    before = listing(made.folder)
    assert predict(run, small_store, Split.TEST, TILE, "cpu").already_existed
    assert listing(made.folder) == before
    (made.folder / "fake_truncated" / "s3_1_0.png").unlink()
    assert not predict(run, small_store, Split.TEST, TILE, "cpu").already_existed
    assert listing(made.folder) == before


def test_another_generator_replaces_the_pictures_and_their_scores(
    run: RunFolder, small_store: Store, tmp_path: Path
) -> None:
    old = predict(run, small_store, Split.TEST, TILE, "cpu")
    (old.folder / "scores.json").write_text("{}")
    (old.folder / "fake" / "stray.png").write_bytes(b"")
    first = listing(old.folder)
    shutil.copy(make_run(tmp_path / "other", small_store, seed=1).generator, run.generator)
    predict(run, small_store, Split.TEST, TILE, "cpu")
    second = listing(old.folder)
    assert first.keys() - second.keys() == {"scores.json", "fake/stray.png"}
    assert all(first[name] != data for name, data in second.items())


def test_interrupted_predictions_are_absent_until_the_same_command_completes_it(
    run: RunFolder, small_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def signalling(generator: torch.nn.Module, he: NDArray[np.uint8], device: torch.device, seed: int) -> torch.Tensor:
        calls.append(len(calls))
        if calls == [0, 1]:
            os.kill(os.getpid(), signal.SIGTERM)
        return translate(generator, he, device, seed=seed)

    monkeypatch.setattr(predict_module, "translate", signalling)
    with pytest.raises(Interrupted, match=r"run the same command to resume"):
        predict(run, small_store, Split.TEST, TILE, "cpu")
    place = run.predictions("test", TILE).path
    assert not place.exists()
    predict(run, small_store, Split.TEST, TILE, "cpu")
    assert len(calls) == 4  # two before the signal, two after: none twice
    assert len(list(place.rglob("*.png"))) == 8
    assert list(place.parent.iterdir()) == [place]


def test_the_runs_own_store_is_found_and_another_in_its_place_is_refused(
    run: RunFolder, small_store: Store, tmp_path: Path
) -> None:
    assert open_store_of(run).path == small_store.path
    rewrite(run.facts, {"seal": "ab" * 32})
    with pytest.raises(RunError, match=rf"seal abababababab, but .* now has seal {small_store.manifest.seal[:12]}"):
        open_store_of(run)
    rewrite(run.facts, {"store": str(tmp_path / "gone.zarr")})
    with pytest.raises(RunError, match=r"gone.zarr, which does not exist; name its copy with --store"):
        open_store_of(run)


def test_what_is_not_there_is_refused_before_anything_is_written(run: RunFolder, small_store: Store) -> None:
    before = listing(run.path)
    with pytest.raises(RunError, match=r"no view 'x8' of test; it has x1, x2, x4, tile"):
        predict(run, small_store, Split.TEST, "x8", "cpu")
    with pytest.raises(RunError, match=r"has no val pairs; it has train \(8\), test \(4\)"):
        predict(run, small_store, Split.VAL, "x1", "cpu")
    odd = Store(small_store.path, replace(small_store.manifest, tile_side=126))
    with pytest.raises(SettingsError, match=r"side of 126 px; the generator needs a multiple of 4, such as 124 or 128"):
        predict(run, odd, Split.TEST, TILE, "cpu")
    assert listing(run.path) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "no generator .*not finished; run its `fit` to the end"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:-9]),
            "is damaged .*; bring back a copy; or, .* and run the same `fit`",
        ),
        (lambda file: file.write_bytes(b""), "is empty .*; bring back a copy"),
    ],
)
def test_a_generator_that_is_missing_or_damaged_is_refused(
    run: RunFolder, small_store: Store, damage: object, message: str
) -> None:
    damage(run.generator)  # type: ignore[operator]  # one of the three above
    with pytest.raises(RunError, match=message):
        predict(run, small_store, Split.TEST, TILE, "cpu")
    assert not (run.path / "predictions").exists()


def test_foreign_and_newer_generator_files_are_refused(run: RunFolder, small_store: Store) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, run.generator)
    with pytest.raises(RunError, match="is not a generator of this program"):
        load_generator(run.generator)
    save_file({"a": torch.zeros(1)}, run.generator, {"magstain": json.dumps({"version": FORMAT + 1})})
    with pytest.raises(RunError, match=rf"has version {FORMAT + 1}, this program reads {FORMAT}; update"):
        load_generator(run.generator)
