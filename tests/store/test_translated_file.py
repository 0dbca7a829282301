"""A picture and its record get their names together; what a kill leaves is completed or removed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from store.files import digest_bytes
from store.records.translated_file import is_published, publish, settle
from store.records.translation import read_translation
from store.schema import StoreError
from tests.support.disks import contents
from tests.support.translations import RECORD

OTHER = replace(RECORD, name="b.png")


class Stopped(BaseException):
    """A kill: nothing catches it."""


def test_a_picture_and_its_record_are_there_together(tmp_path: Path) -> None:
    made = publish(tmp_path / "a.png", b"pixels", RECORD)
    assert made == replace(RECORD, output=digest_bytes(b"pixels")) == read_translation(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"pixels"
    assert sorted(contents(tmp_path)) == ["a.png", "a.png.json"]


@pytest.mark.parametrize("data", [b"pixels", b"others"])
@pytest.mark.parametrize("dies_at", [1, 2])
def test_what_a_kill_leaves_is_the_old_picture_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int, data: bytes
) -> None:
    """Also where both are the same bytes, by other settings."""
    output = tmp_path / "a.png"
    publish(output, b"pixels", RECORD)
    real, left = Path.replace, [dies_at]

    def counted(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == 0:
            raise Stopped
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted)
        with pytest.raises(Stopped):
            publish(output, data, OTHER)
    is_new = dies_at == 2 or data == b"pixels"
    assert is_published(output) == is_new
    settle(output)
    assert output.read_bytes() == (data if is_new else b"pixels")
    assert read_translation(output) == replace(OTHER if is_new else RECORD, output=digest_bytes(output.read_bytes()))
    assert sorted(contents(tmp_path)) == ["a.png", "a.png.json"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(StoreError, match="a folder is in the place of a file"):
        publish(tmp_path / "a.png", b"pixels", RECORD)
    assert contents(tmp_path) == {"a.png/": b""}
    settle(tmp_path / "a.png")
