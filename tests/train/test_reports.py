"""What a run says and shows: the lines before its first step, progress, contact sheets."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from store.contact_sheet import draw_sheet
from store.images import read_picture
from store.reader import Store
from store.run_files import RunFolder
from store.schema import SettingsError, Split
from tests.support.stores import build_small_store
from tests.support.tiny_run import NARROW, ONE_EPOCH, TINY
from train.loop.fit import fit
from train.loop.session import adapt_to_store
from train.methods.recipes import load_recipe
from train.run import snapshots
from train.run.reporting import main_losses

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_starts_with_the_lines_that_matter_and_its_log_has_no_carriage_return(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    fit(folder, store, replace(TINY, ema=0.9))
    said = capsys.readouterr().err
    assert "\r" not in said
    lines = said.splitlines()
    assert [line.split()[0] for line in lines[:8]] == [
        *("method", "store", "data", "loss", "length", "parameters", "settings", "watch")
    ]
    assert lines[0] == "method      attention_gan: multi-magnification attention GAN"
    assert "SYNTHETIC DATA" in lines[1]
    assert lines[6] == f"settings    {folder.settings}"
    assert lines[7] == f"watch       tensorboard --logdir {folder.tensorboard}"
    text = " ".join(said.split())
    assert "8 train pairs, views x1 (33%), x2 (33%), x4 (33%) of 96 px, enlarged by lanczos" in text
    assert "4 epochs x 8 steps of batch 1 = 32 steps on cpu in fp32" in text
    assert "no val pairs: there is no validation, and samples show train pairs, which the run learns from" in text
    assert "EMA (decay 0.9): samples, validation and the saved generator use averaged weights" in text
    assert not re.search(r"^\w+ = ", said, re.MULTILINE)  # settings are in settings.toml
    assert all(len(line) <= 100 for line in lines if str(tmp_path) not in line)
    assert re.search(
        r"^epoch 4/4: 32 of 32 steps, 100 %, .* left, D [\d.]+, adv [\d.]+, \w+ [\d.]+$", said, re.MULTILINE
    )


def test_without_event_files_there_is_nothing_to_watch(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_recipe([], [*NARROW, *ONE_EPOCH, "method=cyclegan", "tensorboard=false", "data.views=['x1']"])
    fit(RunFolder(tmp_path / "run"), store, settings)
    said = capsys.readouterr().err
    assert "tensorboard" not in said
    assert "unpaired: each H&E picture goes with the IHC of a random pair" in " ".join(said.split())


def test_the_progress_line_shows_three_losses() -> None:
    means = {"discriminator_fake": 0.25, "discriminator_real": 0.5, "gradient_discriminator": 99.0, "adversarial": 2.0}
    means |= {"adversarial_he": 9.0, "cycle_he": 3.0, "cycle_ihc": 4.0, "gradient_generator": 2924.0}
    terms = ["adversarial", "adversarial_he", "cycle_he", "cycle_ihc"]
    assert main_losses(means, terms) == {"D": 0.75, "adv": 2.0, "cycle_ihc": 4.0}
    assert main_losses({"l1": 1.0, "gradient_generator": 5.0}, ["l1"]) == {"l1": 1.0}


def test_contact_sheets_of_synthetic_data_say_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []

    def noted(**words: object) -> object:
        titles.append(str(words["title"]))
        return draw_sheet(**words)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(snapshots, "draw_sheet", noted)
    for synthetic in (True, False):
        shown = Store(store.path, replace(store.manifest, synthetic=synthetic))
        samples = snapshots.read_samples(shown, snapshots.choose_samples(shown, ("x1",)))
        snapshots.draw_samples(samples, [row.pictures[0] for row in samples.rows], "asp, step 1 of 2")
        assert ("synthetic, not tissue" in samples.footer) == synthetic
    assert titles == ["SYNTHETIC DATA. asp, step 1 of 2, pictures of train", "asp, step 1 of 2, pictures of train"]


@pytest.mark.parametrize("views", [("tile",), ("x1", "x2", "x4"), ("tile", "x4")])
@pytest.mark.parametrize("validated", [True, False])
def test_no_picture_of_test_is_read_while_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validated: bool, views: tuple[str, ...]
) -> None:
    """Samples are of val, else of train; a run whose store has test pairs reads none of them."""
    ids = {Split.TRAIN: [f"s1_{n}_0" for n in range(4)], Split.TEST: ["s3_0_0", "s3_1_0"]}
    ids |= {Split.VAL: ["s2_0_0"]} if validated else {}
    store = build_small_store(tmp_path / "s.zarr", ids=ids)
    samples = snapshots.choose_samples(store, views)
    assert {ref.split for ref in samples} == {Split.VAL if validated else Split.TRAIN}
    read: set[Split] = set()
    usual = Store.many_planes

    def noted(self: Store, split: Split, *words: object) -> None:
        read.add(split)
        usual(self, split, *words)  # type: ignore[arg-type] # as they came

    monkeypatch.setattr(Store, "many_planes", noted)
    snapshots.read_samples(store, samples)
    snapshots.choose_examples(store, views)
    assert Split.TEST not in read
    assert read


@pytest.mark.parametrize(
    ("tile", "view", "depth"), [(256, 128, 7), (192, 96, 5), (1024, 512, 8), (768, 256, 8), (96, 48, 8), (160, 160, 5)]
)
def test_a_unet_is_adapted_to_the_sides_of_a_store(store: Store, tile: int, view: int, depth: int) -> None:
    """The published depth is 8; at 96 and 48 px even the smallest, 5, is too deep, and the settings stay."""
    sides = Store(store.path, replace(store.manifest, tile_side=tile, view_side=view))
    settings = load_recipe([], ["method=pix2pix"])
    expected = replace(settings, generator=replace(settings.generator, depth=depth))
    assert adapt_to_store(settings, sides) == expected
    resnet = load_recipe([], ["method=cyclegan"])
    assert adapt_to_store(resnet, sides) == resnet


def test_an_adapted_run_says_so_and_needs_the_flag_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = build_small_store(tmp_path / "s.zarr", tile_side=128, view_side=64)
    settings = load_recipe([], [*NARROW, *ONE_EPOCH, "method=pix2pix", "data.views=['x1']"])
    with pytest.raises(
        SettingsError, match=r"side of 64 px; the generator needs a multiple of 256.*`fit --adapt` does"
    ):
        fit(RunFolder(tmp_path / "run"), store, settings)
    fit(RunFolder(tmp_path / "run"), store, settings, adapt=True)
    said = capsys.readouterr().err
    assert "--adapt: generator.depth = 6 instead of 8, for views of 64 px and tiles of 128 px\n" in said
    fit(RunFolder(tmp_path / "run"), store, settings, adapt=True)
    assert "is finished (8 steps)" in capsys.readouterr().err
    assert read_picture(tmp_path / "run" / "samples" / "000008.png").std() > 10
