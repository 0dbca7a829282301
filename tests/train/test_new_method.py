"""A method that is one file and one line of the registry is trained, resumed, used and scored like the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluate.__main__ import app as evaluate
from store.reader import TILE, Store
from store.run_files import RunFolder
from store.schema import Interrupted, SettingsError, Split
from tests.support.command_line import CommandLine
from tests.support.runs import assert_equal, state
from tests.support.toy_method import MINE
from train.describe import describe_method
from train.loop.fit import fit
from train.methods.base import MethodEntry
from train.methods.recipes import load_recipe
from train.methods.registry import METHODS
from train.predict import predict
from train.settings import AtTest, TrainSettings

SHORT = ["method=mine", "device=cpu", "precision=fp32", "data.workers=0", "checkpoint_every=5", "weights.l1=10"]
SHORT += ["optimiser.constant_epochs=2", "optimiser.decay_epochs=0"]  # 16 steps

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line."""
    monkeypatch.setitem(METHODS, "mine", MINE)


def test_a_new_method_needs_one_file_and_one_line(
    store: Store,
    tmp_path: Path,
    signal_at: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = load_recipe([], SHORT)
    straight, stopped = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "stopped")
    fit(straight, store, settings)
    signal_at(7)
    with pytest.raises(Interrupted, match="saved after step 7 of 16"):
        fit(stopped, store, settings)
    signal_at(0)
    fit(stopped, store, settings)
    assert_equal(state(stopped), state(straight))
    assert stopped.generator.read_bytes() == straight.generator.read_bytes()
    line = json.loads(stopped.metrics.read_text().splitlines()[-1])
    assert line.keys() == {"step", "epoch", "seconds", "learning_rate", "skipped", "l1", "gradient_generator"}
    assert "method      mine: One convolution" in capsys.readouterr().err

    assert predict(stopped, store, Split.TEST, TILE, "cpu").pictures == 4
    monkeypatch.setenv("MAGSTAIN_WEIGHTS", str(tmp_path / "no weights"))
    line = CommandLine("evaluate", evaluate, monkeypatch, capsys)
    scored = line("score", "--run", stopped.path, "--split", "test", "--view", "tile")
    assert scored.code == 0, scored.err
    scores = json.loads((stopped.predictions("test", "tile").path / "scores.json").read_text())
    assert scores["method"] == "mine"


def test_a_method_without_a_preset_has_the_default_settings() -> None:
    settings = load_recipe([], ["method=mine"])
    assert settings == TrainSettings(method="mine")


def test_a_new_method_is_described() -> None:
    said = describe_method(load_recipe([], ["method=mine"]), 96)
    assert "mine: One convolution" in said
    assert "source: made for the tests" in said
    assert "generator: 84 parameters, " in said
    assert "the generator's terms: 100 x l1" in said


@pytest.mark.parametrize(
    "key", ["discriminator.base=8", "contrast.width=8", "weights.nce=1", "objective=cross_entropy"]
)
def test_what_a_new_method_does_not_read_is_refused(key: str) -> None:
    name = key.partition("=")[0]
    with pytest.raises(SettingsError, match=rf"{name} \(--set\): method = mine does not read it; it reads weights.l1"):
        load_recipe([], ["method=mine", key])


def test_settings_of_the_loop_are_read_for_every_method() -> None:
    settings = load_recipe([], ["method=mine", "generator.at_test=training", "data.batch=2"])
    assert (settings.generator.at_test, settings.data.batch) == (AtTest.TRAINING, 2)


def test_an_entry_names_settings_that_depend_on_the_method() -> None:
    with pytest.raises(AssertionError, match=r"reads \['data.batch'\]: only initial, objective, .* depend on the meth"):
        MethodEntry(title="x", source="y", build=MINE.build, reads=("data.batch",))
