"""What tests of translations share: a generator that learned nothing, and the command in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from store.run_files import RunFolder
from tests.support.command_line import CommandLine, Outcome
from tests.support.untrained_run import SETTINGS, make_generator
from train.__main__ import app

Translate: TypeAlias = Callable[..., Outcome]
SMALL = ("--set", "tile=64", "--set", "overlap=16", "--device", "cpu")


@pytest.fixture(scope="session")
def generator_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator of the paper's method, in small."""
    few = replace(SETTINGS, generator=replace(SETTINGS.generator, blocks=5))
    return make_generator(RunFolder(tmp_path_factory.mktemp("run")), few).generator


@pytest.fixture
def translate(
    generator_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Translate:
    """`python -m train translate` in an empty folder, in tiles of 64 px."""
    monkeypatch.chdir(tmp_path)
    command = CommandLine("train", app, monkeypatch, capsys)

    def run(*words: object, checkpoint: Path = generator_file) -> Outcome:
        return command("translate", *SMALL, *words, "--checkpoint", checkpoint)

    return run
