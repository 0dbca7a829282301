"""The threads of a translation: recorded, kept by what is resumed, no other translation for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
import torch

from store.images import write_png
from store.records.translation import read_translation
from tests.support.command_line import Outcome
from tests.support.stores import draw_tile

Translate: TypeAlias = Callable[..., Outcome]


class Stopped(BaseException):
    """A kill."""


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    """The threads of this process, which are the same afterwards."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_threads_are_a_setting_and_recorded(translate: Translate, threads: int) -> None:
    write_png(Path("a.png"), draw_tile(96, 1))
    assert translate("a.png", "--out", "b.png").code == 0
    assert read_translation(Path("b.png")).settings["threads"] == threads
    assert translate("a.png", "--set", "threads=3", "--out", "c.png").code == 0
    assert read_translation(Path("c.png")).settings["threads"] == 3
    assert torch.get_num_threads() == 3
    assert "kept" in translate("a.png", "--set", "threads=2", "--out", "c.png").err
    refused = translate("a.png", "--set", "threads=-1", "--out", "d.png")
    assert refused.code == 2
    assert "threads = -1: at least 1, or 0" in refused.err


def test_what_is_resumed_goes_on_with_its_threads(translate: Translate, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(Path("a.png"), draw_tile(96, 1))
    real = Path.replace

    def stopping(self: Path, target: Path) -> Path:
        if Path(target).suffix == ".unit":
            raise Stopped
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopping)
        with pytest.raises(Stopped):
            translate("a.png", "--set", "threads=3", "--out", "b.png")
    assert translate("a.png", "--set", "threads=1", "--out", "b.png").code == 0
    assert torch.get_num_threads() == 3
    assert read_translation(Path("b.png")).settings["threads"] == 3
