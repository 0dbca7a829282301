"""Unpaired stores: rows that lack a stain have no chunks, nothing is returned for them, everything else works on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from store.__main__ import app
from store.contact_sheet import draw_pair, find_row
from store.format.codec import CHECKSUM, MISSING
from store.format.layout import plan_arrays
from store.format.manifest import all_units
from store.overview import describe
from store.pairs.table import NO_DIGEST, Pair
from store.reader import TILE, Store, plan_targets
from store.schema import Codec, MagstainError, Manifest, RunError, SchemaError, Split, Stain, StoreError
from store.verify import verify
from store.writing.repair import start_repair
from store.writing.writer import open_writer
from tests.support.command_line import CommandLine
from tests.support.forgery import forge
from tests.support.s3 import objects
from tests.support.stores import small_manifest
from tests.support.unpaired import (
    NAMES,
    build_unpaired_store,
    tile_of,
    unpaired_blocks,
    unpaired_manifest,
    unpaired_table,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build_unpaired_store(tmp_path_factory.mktemp("unpaired") / "u.zarr")


@pytest.mark.parametrize("codec", Codec)
def test_every_tile_that_is_there_is_read_and_no_other(tmp_path: Path, codec: Codec) -> None:
    store = build_unpaired_store(tmp_path / "u.zarr", codec=codec)
    for split, stains in NAMES.items():
        for stain, names in stains.items():
            assert list(store.rows(split, stain)) == list(range(len(names)))
            for row in range(store.manifest.counts[split]):
                if row < len(names):
                    assert (store.picture(split, TILE, stain, row) == tile_of(store.manifest, split, stain, row)).all()
                    continue
                for view in store.views(split):
                    with pytest.raises(
                        StoreError, match=f"row {row} of {split} .* has no {stain.spoken} picture.*unpaired"
                    ):
                        store.picture(split, view, stain, row)
                    with pytest.raises(StoreError, match="has no"):
                        store.box(split, view, row, stain=stain)


def test_boxes_of_a_stain_do_not_depend_on_the_other(tmp_path: Path, store: Store) -> None:
    fewer = {split: {**stains, Stain.HE: stains[Stain.HE][1:]} for split, stains in NAMES.items()}
    other = build_unpaired_store(tmp_path / "u.zarr", fewer)
    for row in store.rows(Split.TEST, Stain.IHC):
        assert store.box(Split.TEST, "x4", row, stain=Stain.IHC) == other.box(Split.TEST, "x4", row, stain=Stain.IHC)
    assert store.box(Split.TEST, "x4", 1) == other.box(Split.TEST, "x4", 0)


def test_plain_zarr_reads_what_is_there_and_the_fill_value_elsewhere(store: Store) -> None:
    for split, stains in NAMES.items():
        for stain, names in stains.items():
            array = zarr.open_array(store.path / split / "x2" / stain, mode="r")
            assert array.shape[0] == store.manifest.counts[split]
            for row in range(array.shape[0]):
                wanted = store.picture(split, "x2", stain, row) if row < len(names) else np.zeros((64, 64, 3), np.uint8)
                assert (np.asarray(array[row, 0]) == wanted).all()


def test_nothing_is_stored_for_a_tile_that_is_not_there(store: Store) -> None:
    for unit in all_units(store.manifest):
        for plan in plan_arrays(store.manifest, unit.split):
            if not plan.pictures:
                continue
            data = (store.path / plan.shard_name(unit)).read_bytes()
            slots = store.manifest.unit
            index = np.frombuffer(data[-CHECKSUM - 16 * slots : -CHECKSUM], "<u8").reshape(slots, 2)
            held = (index[:, 0] != MISSING).sum()
            assert held == plan.held(unit), plan.path
            assert len(data) == index[:held, 1].sum() + 16 * slots + CHECKSUM


def test_an_interrupted_build_is_resumed_and_seals_alike(tmp_path: Path, store: Store) -> None:
    manifest, path = unpaired_manifest(), tmp_path / "u.zarr"
    with open_writer(path, manifest, unpaired_table()) as writer:
        for pending in writer.pending()[::2]:
            writer.write(pending, unpaired_blocks(manifest, pending))
    resumed = build_unpaired_store(path)
    assert resumed.manifest.seal == store.manifest.seal
    assert verify(path).intact


def test_a_bucket_gets_the_same_files(bucket: str, store: Store) -> None:
    address = f"{bucket}/u.zarr"
    assert build_unpaired_store(address).manifest == store.manifest
    assert objects(address) == objects(store.location)
    assert verify(address).intact


@pytest.mark.parametrize(
    "lost", ["train/x1/ihc/c/2/0/0/0/0", "test/tile/he/c/1/0/0/0", "test/pair/ihc_id/c/0", "zarr.json"]
)
def test_damage_is_found_and_repaired(tmp_path: Path, store: Store, lost: str) -> None:
    path = tmp_path / "u.zarr"
    shutil.copytree(store.path, path)
    for place in (path, *path.rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)
    (path / lost).unlink()
    if lost != "zarr.json":
        assert verify(path).missing == (lost,)
    manifest = start_repair(path, unpaired_manifest(), unpaired_table()).manifest
    with open_writer(path, manifest, unpaired_table()) as writer:
        for pending in writer.pending():
            writer.write(pending, unpaired_blocks(manifest, pending))
        assert writer.seal() == store.manifest.seal
    assert verify(path).intact


def test_the_manifest_has_the_new_facts_only_where_they_are_used(store: Store) -> None:
    facts = json.loads((store.path / "zarr.json").read_text())["attributes"]["manifest"]
    assert facts["paired"] is False
    assert facts["tiles"]["test"] == {"he": 2, "ihc": 5}
    assert facts["counts"] == {"train": 7, "val": 2, "test": 5}


def test_targets_are_those_of_a_stain(store: Store) -> None:
    assert [target.name for target in plan_targets(store, Split.TEST, "x1")] == ["d0_0_0.png", "d1_0_0.png"]
    ihc = plan_targets(store, Split.TEST, "x1", Stain.IHC)
    assert [(target.name, target.slide) for target in ihc] == [(f"d{n}_0_0.png", f"d{n}") for n in range(5)]


def test_a_split_may_have_one_stain_only(tmp_path: Path) -> None:
    names = {Split.TRAIN: NAMES[Split.TRAIN], Split.TEST: {Stain.HE: [], Stain.IHC: ["e0_0_0"]}}
    store = build_unpaired_store(tmp_path / "u.zarr", names)
    with pytest.raises(RunError, match="unpaired and has no H&E picture in test"):
        plan_targets(store, Split.TEST, "x1")
    assert "unpaired, 0 H&E of 0 slides; 1 IHC of 1 slide: e0 (1)" in describe(store)


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "more of both": lambda manifest: manifest["tiles"]["train"].update(he=6),
    "no stain": lambda manifest: manifest["tiles"].update(test={}),
    "negative": lambda manifest: manifest["tiles"]["test"].update(he=-1),
    "no split": lambda manifest: manifest["tiles"].pop("test"),
    "as pairs": lambda manifest: manifest.update(paired=True),
    "as pairs, not counted": lambda manifest: manifest.update(paired=True, tiles={}),
    "one H&E more": lambda manifest: manifest["tiles"]["test"].update(he=3),
    "one IHC fewer": lambda manifest: manifest["tiles"]["train"].update(ihc=3),
    "many": lambda manifest: manifest["tiles"]["test"].update(he=10**30),
}


@pytest.mark.parametrize("name", FORGED)
def test_counts_that_lie_are_refused(tmp_path: Path, store: Store, name: str) -> None:
    path = forge(store, tmp_path / "forged.zarr", change=FORGED[name])
    with pytest.raises(MagstainError):
        [Store.open(path).pairs(split) for split in Split]


def test_a_row_has_a_tile() -> None:
    with pytest.raises(SchemaError, match="neither an H&E nor an IHC tile"):
        Pair(id="a", slide="", he="", ihc="", he_digest=NO_DIGEST, ihc_digest=NO_DIGEST)


def test_stores_of_pairs_have_every_tile(tmp_path: Path) -> None:
    manifest: Manifest = small_manifest()
    with pytest.raises(SchemaError, match="paired, tiles are not counted"):
        replace(manifest, tiles={Split.TRAIN: {Stain.HE: 8, Stain.IHC: 8}})


def test_show_and_info_say_unpaired_and_show_one_stain(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = describe(store)
    assert "unpaired, 7 H&E of 7 slides: a0 (1), a1 (1)" in text
    assert "pair of" not in text
    assert "2 of 2 slides of val are" not in text
    row = find_row(store, Split.TEST, "d4_0_0", Stain.IHC)
    assert draw_pair(store, Split.TEST, row, Stain.IHC).shape[1] == draw_pair(store, Split.TEST, 0).shape[1]
    with pytest.raises(StoreError, match="d4_0_0"):
        find_row(store, Split.TEST, "d4_0_0")
    monkeypatch.chdir(tmp_path)
    run = CommandLine("store", app, monkeypatch, capsys)
    done = run("show", store.path, "--pair", "d3_0_0", "--stain", "ihc")
    assert (done.code, done.out) == (0, "contact sheet of d3_0_0: u-test-3-ihc.png\n")
    assert run("show", store.path, "--pair", "d3_0_0").code == 2
