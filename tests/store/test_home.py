"""Users without a home, as in a container whose number nobody listed."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from store.disk.home import NOWHERE, cache_folder, home
from store.weights import weights_folder
from tests.support.command_line import CommandLine


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "MAGSTAIN_WEIGHTS", "MAGSTAIN_FEATURES"):
        monkeypatch.delenv(name, raising=False)


def test_a_user_without_a_home_has_caches_that_do_not_exist(nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home() == NOWHERE
    assert weights_folder() == NOWHERE / ".cache/magstain/weights"
    monkeypatch.setenv("MAGSTAIN_WEIGHTS", "named")
    assert cache_folder("MAGSTAIN_WEIGHTS", "weights") == Path("named")


def test_a_home_is_where_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert home() == Path("/h")
    assert cache_folder("UNSET", "f") == Path("/h/.cache/magstain/f")


def test_weights_can_be_listed_without_a_home(nobody: None, line: CommandLine) -> None:
    done = line("weights", "--list")
    assert "Traceback" not in done.err
    assert done.code in (0, 2)
