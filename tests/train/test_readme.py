"""What train/README.md tells a user to type."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest
from typer.testing import CliRunner

from store.settings import plain
from tests.support.places import ROOT
from train.__main__ import app
from train.methods.recipes import PRESETS
from train.methods.registry import METHODS
from train.settings import TrainSettings

README = (ROOT / "train" / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"train (fit|predict|describe|import) (.*?)(?:\s+#.*)?$", README, re.MULTILINE)))


def keys(tree: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


SETTINGS = set(keys(plain(TrainSettings())))


@pytest.mark.parametrize(("verb", "words"), COMMANDS)
def test_options_that_are_shown_exist(verb: str, words: str) -> None:
    known = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
    assert all(option in known for option in re.findall(r"--[a-z-]+", words))
    for preset in re.findall(r"--config (\w+)", words):
        assert (PRESETS / f"{preset}.toml").is_file()
    for key in re.findall(r"--set '?([\w.]+)=", words):
        assert key in SETTINGS


def test_settings_that_are_named_exist() -> None:
    groups = {key.partition(".")[0] for key in SETTINGS if "." in key}
    named = {key for key in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)", README) if key.partition(".")[0] in groups}
    named -= {"generator.safetensors"}
    assert len(named) > 20
    assert {key for key in named if key not in SETTINGS} == set()


def test_the_table_has_every_method() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ", README, re.MULTILINE)
    assert rows == list(METHODS)
