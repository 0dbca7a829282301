"""What is in the place of an output or of what lies beside it: kept, and told before anything is translated."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from store.images import read_picture, write_png
from tests.support.command_line import Outcome
from tests.support.disks import contents
from tests.support.stores import draw_tile

Translate: TypeAlias = Callable[..., Outcome]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder beside a picture `he.png`."""
    write_png(tmp_path / "he.png", draw_tile(48, 1))
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_a_file_of_the_user_with_the_name_of_a_record_is_kept(translate: Translate, out: Path) -> None:
    """Annotations have such names."""
    (out / "he.png.json").write_text('{"shapes": "hours of work"}')
    before = contents(out)
    refused = translate("he.png", "--out", "out")
    assert refused.code == 2
    assert "he.png.json would be replaced, and is no record of a translation" in refused.err
    assert contents(out) == before
    assert translate("he.png", "--out", "out", "--overwrite").code == 0
    assert read_picture(out / "he.png").shape == (48, 48, 3)
    (out / "he.png").unlink()
    assert translate("he.png", "--out", "out").code == 0  # the record is ours


@pytest.mark.parametrize("name", ["he.png", "he.png.json"])
@pytest.mark.parametrize("words", [(), ("--overwrite",)])
def test_a_folder_in_the_place_of_a_file_is_told_first(
    translate: Translate, out: Path, name: str, words: tuple[str, ...]
) -> None:
    (out / name).mkdir()
    (out / name / "mine.txt").write_text("mine")
    before = contents(out)
    refused = translate("he.png", "--out", "out", *words)
    assert refused.code == 2
    assert f"{name} is a folder in the place of a file" in refused.err
    assert "translating" not in refused.err
    assert contents(out) == before


def test_a_link_is_replaced_and_what_it_leads_to_is_kept(translate: Translate, out: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.png").write_bytes(b"mine")
    (out / "he.png").symlink_to(tmp_path / "elsewhere.png")
    assert translate("he.png", "--out", "out").code == 2
    assert translate("he.png", "--out", "out", "--overwrite").code == 0
    assert not (out / "he.png").is_symlink()
    assert (tmp_path / "elsewhere.png").read_bytes() == b"mine"


def test_a_pipe_is_no_picture_and_is_not_waited_for(translate: Translate, out: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    refused = translate("pipe.png", "--out", "out")
    assert refused.code == 2
    assert "pipe.png: is no ordinary file" in refused.err
