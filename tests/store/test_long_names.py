"""Names that are too long for their disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store.disk.names import check_length
from store.files import write_whole
from store.location.open import locate
from store.reader import Store
from store.run_files import RunFolder
from store.schema import StoreError
from store.writing.writer import open_writer
from tests.support.command_line import CommandLine
from tests.support.disks import contents
from tests.support.stores import build_small_store, small_manifest, small_table
from train.run.folder import make_folder

DEEP = "/".join(["d" * 200] * 21)


@pytest.mark.parametrize("name", ["ä" * 122 + ".zarr", "n" * 250, "n" * 300])
def test_a_store_whose_journal_could_not_be_named_is_refused_first(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match=r"the name \S+\.journal, which would be beside .* disk takes 255; shorten it"):
        locate(tmp_path / name)
    with (
        pytest.raises(StoreError, match="too long"),
        open_writer(str(tmp_path / "parent" / name), small_manifest(), small_table()),
    ):
        pass
    assert contents(tmp_path) == {}


def test_the_longest_names_that_fit_work(tmp_path: Path) -> None:
    most = os.pathconf(tmp_path, "PC_NAME_MAX")
    build_small_store(tmp_path / ("n" * (most - 8)))
    make_folder(RunFolder(tmp_path / ("r" * most)))
    write_whole(tmp_path / ("p" * most), b"1")
    assert (tmp_path / ("p" * most)).read_bytes() == b"1"
    assert len([*tmp_path.iterdir()]) == 3


@pytest.mark.parametrize("path", [DEEP, f"{'n' * 300}/run", "n" * 300])
def test_a_run_is_refused_before_anything_is_written(tmp_path: Path, path: str) -> None:
    with pytest.raises(StoreError, match=r"the (path|name) \S+ is too long: it has \d+ bytes"):
        check_length(tmp_path / path)
    with pytest.raises((StoreError, OSError), match="too long"):
        make_folder(RunFolder(tmp_path / path))
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("verb", ["info", "verify", "show"])
@pytest.mark.parametrize("name", ["n" * 300, DEEP])
def test_a_name_that_cannot_be_is_one_line(line: CommandLine, verb: str, name: str) -> None:
    done = line(verb, name)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "is too long" in done.err


def test_any_other_name_is_one_line_too(line: CommandLine, small_store: Store, tmp_path: Path) -> None:
    done = line("weights", "BSRGAN.pth", "--from", "n" * 300, "--folder", tmp_path)
    assert (done.code, "is too long for its disk; give a shorter one" in done.err) == (2, True)
