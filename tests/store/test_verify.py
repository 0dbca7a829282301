"""Verification finds every kind of damage, and nothing in an intact store."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.reader import Store
from store.schema import StoreError
from store.verify import Findings, describe, verify
from store.writing.writer import open_writer
from tests.support.damage import alter
from tests.support.stores import small_manifest, small_table

NONE = Findings(checked=127, missing=(), altered=(), extra=(), unchecked=())


def test_an_intact_store(small_store: Store) -> None:
    findings = verify(small_store.path)
    assert findings == NONE
    assert findings.intact
    assert describe(small_store.path, findings) == f"{small_store.path} is intact: 127 files match their digests"


def test_every_altered_file_is_found_whatever_it_is(copied: Path) -> None:
    names = sorted(file.relative_to(copied).as_posix() for file in copied.rglob("*") if file.is_file())
    digests = [name for name in names if "/unit/digest/" in name]
    for name in set(names) - {"zarr.json"} - set(digests):
        alter(copied / name)
    findings = verify(copied)
    assert findings.altered == tuple(sorted(set(names) - {"zarr.json"} - set(digests)))
    assert (findings.missing, findings.extra, findings.unchecked) == ((), (), ())


@pytest.mark.parametrize(
    "name", ["test/x4/he/c/0/0/0/0/0", "train/tile/ihc/c/2/0/0/0", "train/pair/id/c/0", "zarr.json"]
)
def test_one_altered_file_is_the_only_one_named(copied: Path, name: str) -> None:
    file = copied / name
    if name == "zarr.json":
        file.chmod(0o644)
        file.write_bytes(file.read_bytes().replace(b'"synthetic": true', b'"synthetic": false'))
    else:
        alter(file)
    findings = verify(copied)
    assert findings == Findings(checked=127, missing=(), altered=(name,), extra=(), unchecked=())
    text = describe(copied, findings)
    assert text.splitlines() == [
        f"{copied} is damaged (1 altered; 127 files checked): repair it with `python -m prep build --repair --store "
        f"'{copied}' --data DIR` (DIR: the folder of its tiles)",
        f"  altered: {name}",
    ]


def test_missing_files_are_found(copied: Path) -> None:
    gone = ("test/x1/box/c/1/0/0", "test/x1/he/zarr.json", "train/x2/he/c/0/0/0/0/0")
    for name in gone:
        (copied / name).unlink()
    findings = verify(copied)
    assert findings == Findings(checked=124, missing=gone, altered=(), extra=(), unchecked=())
    assert "3 missing; 124 files checked" in describe(copied, findings)


def test_files_and_folders_that_do_not_belong_are_found(copied: Path) -> None:
    (copied / "train/x2/he/c/0/notes.txt").write_text("mine")
    (copied / "train/x3/he").mkdir(parents=True)
    (copied / "train/x1/he/c/99").symlink_to(copied / "train/x1/he/c/0")
    findings = verify(copied)
    extra = ("train/x1/he/c/99/", "train/x2/he/c/0/notes.txt", "train/x3/", "train/x3/he/")
    assert findings == Findings(checked=127, missing=(), altered=(), extra=extra, unchecked=())
    assert describe(copied, findings).splitlines()[0].endswith("(4 extra; 127 files checked): remove the extra files")


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_shards_whose_digests_are_lost_are_not_called_extra(copied: Path, damage: str) -> None:
    name = "test/unit/digest/c/0/0/0"
    alter(copied / name) if damage == "altered" else (copied / name).unlink()
    findings = verify(copied)
    assert (findings.altered, findings.missing) == (((name,), ()) if damage == "altered" else ((), (name,)))
    assert findings.extra == ()
    assert len(findings.unchecked) == 11 * 2  # the arrays and units of test
    assert all(shard.startswith("test/") and "/c/" in shard for shard in findings.unchecked)
    assert "22 cannot be checked" in describe(copied, findings)


def test_exchanged_shards_are_found(copied: Path) -> None:
    """Each is intact by itself: no checksum inside a file can find this."""
    one, two = copied / "train/x2/he/c/0/0/0/0/0", copied / "train/x2/he/c/1/0/0/0/0"
    one.rename(copied / "swap")
    two.rename(one)
    (copied / "swap").rename(two)
    assert verify(copied).altered == ("train/x2/he/c/0/0/0/0/0", "train/x2/he/c/1/0/0/0/0")


def test_a_root_that_promises_more_than_there_is(copied: Path) -> None:
    file = copied / "zarr.json"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes().replace(b'"test": 4', b'"test": 40'))
    findings = verify(copied)
    assert findings.altered == ("zarr.json",)
    assert "test/x1/he/c/13/0/0/0/0" in findings.missing


def test_progress_is_reported_file_by_file(small_store: Store) -> None:
    seen: list[str] = []

    def watch(names: list[str]) -> list[str]:
        seen.extend(names)
        return names

    verify(small_store.path, watch)
    assert len(seen) == 125  # all but the root, whose digest is the seal
    assert seen == sorted(seen)


def test_an_unfinished_store_cannot_be_verified(tmp_path: Path) -> None:
    with open_writer(tmp_path / "s.zarr", small_manifest(), small_table()):
        pass
    with pytest.raises(StoreError, match="is not finished: its journal is"):
        verify(tmp_path / "s.zarr")
