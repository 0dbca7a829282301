"""A store in object storage, over real HTTP: the same objects as files in a folder, for builders and for readers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from store.format.manifest import all_units
from store.location.local import Folder
from store.location.open import locate
from store.location.s3 import Bucket
from store.pairs.table import Table
from store.reader import TILE, Store
from store.schema import Split, Stain, StoreError
from store.verify import verify
from store.writing.repair import start_repair
from store.writing.writer import finish_sealing, open_writer
from tests.support.places import ROOT
from tests.support.s3 import begin, objects
from tests.support.stores import build_small_store, small_blocks, small_manifest, small_table


def test_a_store_in_a_bucket_is_the_store_in_a_folder(bucket: str, small_store: Store) -> None:
    store = build_small_store(f"{bucket}/deep/small.zarr")
    assert store.address == f"{bucket}/deep/small.zarr"
    assert store.manifest == small_store.manifest
    assert objects(store.location) == objects(small_store.location)
    assert store.location.sizes() == small_store.location.sizes()
    assert verify(store.location) == verify(small_store.location)
    assert store.pairs(Split.TRAIN) == small_store.pairs(Split.TRAIN)
    for view in (TILE, "x1", "x4"):
        assert store.box(Split.TEST, view, 3) == small_store.box(Split.TEST, view, 3)
        for stain in Stain:
            assert np.array_equal(
                store.picture(Split.TEST, view, stain, 3), small_store.picture(Split.TEST, view, stain, 3)
            )


def test_a_build_interrupted_after_every_unit(bucket: str, small_store: Store) -> None:
    address = f"{bucket}/small.zarr"
    units = all_units(small_manifest())
    for done in range(len(units)):
        with open_writer(address, small_manifest(), small_table()) as writer:
            assert writer.pending() == units[done:]
            writer.write(units[done], small_blocks(small_manifest(), units[done]))
            assert writer.is_committed(units[done])
        with pytest.raises(StoreError, match=r"is not finished: its journal is small\.zarr\.journal; run the `prep"):
            Store.open(address)
    assert build_small_store(address).manifest.seal == small_store.manifest.seal
    assert objects(address) == objects(small_store.location)  # and no journal


def test_a_killed_build_resumes_to_the_same_objects(bucket: str, tmp_path: Path) -> None:
    address, whole = f"{bucket}/small.zarr", build_small_store(tmp_path / "small.zarr", unit=2)
    script = "import sys; from tests.support.stores import build_small_store; build_small_store(sys.argv[1], unit=2)"
    build = subprocess.Popen([sys.executable, "-c", script, address], cwd=ROOT)
    journal = locate(address).beside(".journal")
    while sum(name.endswith(".json") for name in journal.names()) < 2 and build.poll() is None:
        time.sleep(0.01)
    build.send_signal(signal.SIGKILL)
    assert build.wait() == -signal.SIGKILL
    assert 2 <= sum(name.endswith(".json") for name in journal.names()) < 6
    build_small_store(address, unit=2)
    assert objects(address) == objects(whole.location)


def test_an_interrupted_layout_or_seal_is_finished(bucket: str, small_store: Store) -> None:
    address = f"{bucket}/small.zarr"
    begin(address, units=0)
    for name in [*locate(address).names()][60:]:  # the root among them: it is the last
        locate(address).remove(name)
    build_small_store(address)
    locate(address).beside(".journal").write("train-000000.json", b"{}")
    finish_sealing(address)
    assert objects(address) == objects(small_store.location)


@pytest.mark.parametrize("begun", ["begun", "claimed", "sealed"])
def test_another_store_is_refused_and_changes_nothing(bucket: str, begun: str) -> None:
    address, table = f"{bucket}/small.zarr", small_table()
    begin(address, units=1)
    if begun == "claimed":
        locate(address).remove("zarr.json")
    elif begun == "sealed":
        build_small_store(address)
    before = objects(address)
    test = table.pairs[Split.TEST]
    other = Table(pairs={**table.pairs, Split.TEST: (replace(test[0], ihc_digest="22" * 32), *test[1:])})
    claimed = "was started with other settings or other sources, or another build is starting it now; choose another"
    sealed = r"small\.zarr is sealed; a finished store is never written to"
    for manifest, sources, message in (
        (replace(small_manifest(), margin=8), table, r"was started with other settings .*\(margin: 4 -> 8\)"),
        (small_manifest(), other, "the sources of .* changed since it was started: pair 's3_0_0' of test: ihc_digest"),
    ):
        expected = {"begun": message, "claimed": claimed, "sealed": sealed}[begun]
        with pytest.raises(StoreError, match=expected):
            begin(address, 1, manifest, sources)
        assert objects(address) == before


def test_a_prefix_with_other_objects_is_refused_and_kept(bucket: str) -> None:
    locate(f"{bucket}/thesis").write("chapter.txt", b"precious")
    with pytest.raises(StoreError, match=r"thesis holds objects and is no store: it has no zarr\.json; choose another"):
        begin(f"{bucket}/thesis", 0)
    assert objects(f"{bucket}/thesis") == {"thesis/chapter.txt": b"precious"}
    begin(f"{bucket}/thesis/small.zarr", 0)  # a prefix beside it is free


def test_of_two_builds_that_start_at_once_one_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both found an empty prefix; without the claim each would write half of a layout."""
    address, claim = f"{bucket}/small.zarr", Bucket.claim
    one, two = (replace(small_manifest(), seed=seed) for seed in (0, 1))

    def late(location: Bucket, name: str, data: bytes) -> bytes:
        monkeypatch.setattr(Bucket, "claim", claim)
        begin(address, 1, two)
        return claim(location, name, data)

    monkeypatch.setattr(Bucket, "claim", late)
    with pytest.raises(StoreError, match="or another build is starting it now"):
        begin(address, 1, one)
    before = objects(address)
    begin(address, 0, two)
    assert objects(address) == before
    with ThreadPoolExecutor(4) as pool:  # the same store: whoever comes first, the objects are the same
        claims = {*pool.map(lambda n: locate(f"{bucket}/x").claim("begun", bytes([n])), range(20))}
    assert len(claims) == 1


def test_a_server_without_conditional_writes(bucket: str, small_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    assert build_small_store(f"{bucket}/small.zarr").manifest.seal == small_store.manifest.seal


def test_a_damaged_store_in_a_bucket_is_repaired(stored: str, small_store: Store) -> None:
    there = locate(stored)
    for name in ("train/x2/he/c/1/0/0/0/0", "test/unit/digest/c/0/0/0", "zarr.json"):
        there.write(name, there.read(name)[:-1] + b" ")
    there.remove("test/pair/id/zarr.json")
    repaired = start_repair(stored, small_manifest(), small_table())
    assert repaired.old_seal == small_store.manifest.seal
    with open_writer(stored, repaired.manifest, small_table()) as writer:
        assert [unit.name for unit in writer.pending()] == ["train-000001"]  # the copy of the root knows the table
        for unit in writer.pending():
            writer.write(unit, small_blocks(repaired.manifest, unit))
        writer.seal()
    assert objects(stored) == objects(small_store.location)


@pytest.mark.parametrize(
    "address", ["s3://", "s3://bucket", "s3://bucket/", "s3:///x.zarr", "s3://b//x", "s3://b/../x"]
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(StoreError, match=rf"{address}: an address in object storage is s3://bucket/name\.zarr or"):
        locate(address)
    with pytest.raises(StoreError, match=r"gs://b/x: a store is in a folder or at s3://bucket/name\.zarr; give one"):
        locate("gs://b/x")
    with pytest.raises(StoreError, match=r"s3:/b/x: an address in object storage is a string, s3://b/x"):
        locate(Path("s3://b/x"))


def test_names_that_a_url_must_quote(bucket: str) -> None:
    there = Bucket(f"{bucket}/a b/ü#%+?&.zarr/")
    there.write("zarr.json", b"1")
    assert (there.name, there.sizes(), there.read("zarr.json")) == ("ü#%+?&.zarr", {"zarr.json": 1}, b"1")
    assert isinstance(locate(str(there)), Bucket)
    assert isinstance(locate("data/s3:/x"), Folder)
