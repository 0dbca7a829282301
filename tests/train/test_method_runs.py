"""Every method from its recipe to pictures: stopped and resumed bit for bit; what cannot work is refused first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from store.images import read_picture
from store.reader import TILE, Store
from store.run_files import RunFolder
from store.schema import Interrupted, SettingsError, Split
from tests.support.runs import assert_equal, state
from tests.support.tiny_run import NARROW, ONE_EPOCH, read_by
from train.loop.fit import fit
from train.methods.recipes import load_recipe
from train.methods.registry import METHODS
from train.predict import predict
from train.settings import TrainSettings

SHORT = [*NARROW, *ONE_EPOCH, "generator.depth=5", "generator.blocks=5", "checkpoint_every=100", "sample_every=100"]
SHORT += ["data.views=['x1', 'tile']"]  # 8 steps, or 4 of batch 2

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(method: str, *overrides: str) -> TrainSettings:
    return load_recipe([], [f"method={method}", *read_by(method, SHORT), *overrides])


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_a_run_ends_in_pictures_whether_it_was_stopped_or_not(
    method: str, store: Store, tmp_path: Path, signal_at: Callable[[int], None], device: torch.device
) -> None:
    """On a CPU bit for bit, with CycleGAN's image pools, dropout and batch norm, and however often samples are made."""
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    fit(whole, store, tiny(method, f"device={device.type}", "sample_every=3"))

    signal_at(2)
    with pytest.raises(Interrupted, match="saved after step 2"):
        fit(cut, store, tiny(method, f"device={device.type}"))
    signal_at(0)
    torch.manual_seed(99)
    fit(cut, store, tiny(method, f"device={device.type}"))
    if device.type == "cpu":
        assert_equal(state(cut), state(whole))

    made = predict(cut, store, Split.TEST, TILE, device.type)
    again = predict(whole, store, Split.TEST, TILE, device.type)
    assert made.pictures == 4
    for file in (made.folder / "fake").iterdir():
        picture = read_picture(file)
        assert picture.shape == (192, 192, 3)
        assert picture.std() > 0
        if device.type == "cpu":
            assert (picture == read_picture(again.folder / "fake" / file.name)).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["method=pix2pix", "generator.depth=6"],
            r"side of 96 px; the generator needs a multiple of 64, such as 64 or",
        ),
        (["method=pix2pix", "generator.attention.enabled=true"], "AMMFI joins the levels of a ResNet"),
        (["method=cut", "data.views=['x8']"], "names 'x8', but .* has x1, x2, x4, tile"),
        (["method=pyramid_p2p", "data.paired=false"], "data.paired = false with method = pyramid_p2p"),
        (["method=cut", "discriminator.layers=6"], r"pictures of 96 px.*the nearest side that works is 192 px"),
        (["method=cyclegan", "discriminator.layers=6"], r"pictures of 96 px.*the nearest side that works is 192 px"),
        (["method=pix2pix", "discriminator.layers=6"], r"pictures of 96 px.*the nearest side that works is 192 px"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    overrides: list[str], message: str, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=message):
        fit(RunFolder(tmp_path / "run"), store, load_recipe([], [*SHORT, *overrides]))
    assert list(tmp_path.iterdir()) == []
