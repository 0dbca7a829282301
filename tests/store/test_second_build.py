"""A second build or repair during a first gets a sentence at any moment, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.format.manifest import journal_of
from store.location.local import Folder
from store.reader import Store
from store.schema import StoreError
from store.writing.repair import start_repair
from store.writing.writer import finish_sealing, open_writer
from tests.support.damage import alter
from tests.support.disks import contents
from tests.support.repairs import X2, repair
from tests.support.stores import build_small_store, small_manifest, small_table

SENTENCE = "is being written by another process; wait for it or stop it|is sealed; a finished store is never"
MOMENTS = ("publish", "write", "discard", "remove_partial", "make_read_only", "remove", "remove_all")


def second_build(path: Path) -> None:
    with open_writer(path, small_manifest(), small_table()):
        pass


def second_repair(path: Path) -> None:
    start_repair(path, small_manifest(), small_table())
    second_build(path)


def during_each(monkeypatch: pytest.MonkeyPatch, second: Callable[[], None]) -> list[str]:
    """Call `second` before the first, and every 20th, of each kind of file operation; returns the kinds that it met."""
    met: list[str] = []
    for moment in MOMENTS:
        original, count = getattr(Folder, moment), [0]

        def once(
            folder: Folder, *args: Any, _original: Any = original, _count: Any = count, _name: str = moment, **kw: Any
        ) -> Any:
            _count[0] += 1
            if _count[0] % 20 == 1 and not during:
                during.append(_name)
                met.append(_name)
                second()
                during.clear()
            return _original(folder, *args, **kw)

        monkeypatch.setattr(Folder, moment, once)
    return met


during: list[str] = []


@pytest.mark.parametrize("second", [second_build, second_repair, finish_sealing])
def test_a_second_command_during_a_build(
    small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: Callable[[Path], None]
) -> None:
    path = tmp_path / "s.zarr"
    said: list[str] = []

    def try_it() -> None:
        try:
            second(path)
        except StoreError as error:
            said.append(str(error))

    met = during_each(monkeypatch, try_it)
    build_small_store(path)
    assert {"publish", "write", "remove_partial", "make_read_only", "remove", "remove_all"} <= {*met}
    assert sum("is being written by another process" in one for one in said) >= len(met) - 4, said
    assert contents(path) == contents(small_store.path)
    assert not journal_of(path).exists()


def test_a_second_command_during_a_repair(copied: Path, small_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    alter(copied / X2)

    def try_it() -> None:
        with pytest.raises(StoreError, match=SENTENCE):
            second_repair(copied)

    met = during_each(monkeypatch, try_it)
    repair(copied)
    assert "write" in met
    assert contents(copied) == contents(small_store.path)
    assert not journal_of(copied).exists()


def test_the_journal_of_a_loser_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The winner finishes while the loser waits to lock: its journal is new, though there was one when it looked."""
    path = build_small_store(tmp_path / "s.zarr").path
    journal_of(path).mkdir()
    with pytest.raises(StoreError, match="is sealed; a finished store is never written to"):
        second_build(path)
    assert [file.name for file in tmp_path.iterdir()] == ["s.zarr"]
