"""What reads a store takes an address in object storage as well: zarr, other processes, every command."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import ObjectStore

from evaluate.scoring.score import score_run
from store.location.open import locate
from store.reader import Store
from store.records.facts import open_store_of
from store.run_files import RunFolder
from store.schema import Split, Stain, StoreError
from store.verify import describe, verify
from tests.support.command_line import CommandLine
from tests.support.places import ROOT
from tests.support.predictions import without_weights
from tests.support.s3 import objects
from tests.support.tiles import command as prep
from tests.support.tiles import lanczos, run
from train.loop.fit import fit
from train.predict import predict
from train.settings import (
    ContrastSettings,
    DataSettings,
    DiscriminatorSettings,
    GeneratorSettings,
    OptimiserSettings,
    TrainSettings,
)


def command(*words: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-W", "error", "-m", *map(str, words)]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)


def test_bare_zarr_and_other_processes_read_it(stored: str, small_store: Store) -> None:
    from obstore.store import S3Store

    client = S3Store.from_url(stored, endpoint=os.environ["AWS_ENDPOINT_URL"], client_options={"allow_http": True})
    group: Any = zarr.open(ObjectStore(client, read_only=True), mode="r")
    array = group["train/x4/he"]
    assert np.array_equal(array[5, 0], small_store.picture(Split.TRAIN, "x4", Stain.HE, 5))
    store = Store.open(stored)
    store.picture(Split.TRAIN, "x4", Stain.HE, 5)
    data = pickle.dumps(store)  # what is open must not travel
    assert len(data) < 3000
    again = pickle.loads(data)
    assert np.array_equal(again.picture(Split.TRAIN, "x4", Stain.HE, 5), array[5, 0])
    assert again.skipped() == ()


def test_the_store_commands(stored: str, tmp_path: Path, line: CommandLine) -> None:
    done = command("store", "info", stored)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{stored}: small: SYNTHETIC")
    verified, shown = line("verify", stored), line("show", stored, "--out", tmp_path / "s.png")
    assert (verified.code, verified.out) == (0, f"{stored} is intact: 127 files match their digests\n")
    assert (shown.code, shown.out) == (0, f"contact sheet of s3_0_0: {tmp_path}/s.png\n")
    locate(stored).remove("test/x1/he/c/0/0/0/0/0")
    outcome = line("verify", stored)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.endswith(f"error: {describe(stored, verify(stored))}\n")
    assert f"python -m prep build --repair --store '{stored}' --data DIR" in outcome.err
    outcome = line("info", stored.replace("small", "smal"))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.endswith(
        "smal.zarr is no store: it has no zarr.json; correct the address, or build a store with "
        "`python -m prep build`\n"
    )


def test_another_process_opens_it_for_itself(stored: str, small_store: Store) -> None:
    """As the loader's workers do."""
    store = Store.open(stored)
    mine = store.picture(Split.TRAIN, "x2", Stain.HE, 7)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        theirs = pool.submit(store.picture, Split.TRAIN, "x2", Stain.HE, 7).result()
    assert np.array_equal(mine, theirs)
    assert np.array_equal(mine, small_store.picture(Split.TRAIN, "x2", Stain.HE, 7))


def test_training_and_scoring(stored: str, small_store: Store, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    settings = TrainSettings(
        device="cpu",
        data=DataSettings(workers=0),
        generator=GeneratorSettings(base=4),
        discriminator=DiscriminatorSettings(base=4, layers=3),
        contrast=ContrastSettings(patches=4, width=4),
        optimiser=OptimiserSettings(constant_epochs=1, decay_epochs=0),
    )
    fit(folder, Store.open(stored), settings)
    store = open_store_of(folder)
    assert store.address == stored
    predict(folder, store, Split.TEST, "x1", "cpu")
    source = without_weights(tmp_path)
    there, here = (score_run(folder.path, None, opened, Split.TEST, "x1", source) for opened in (store, small_store))
    assert repr(there) == repr(here)  # NaN is not equal to itself, its repr is


def test_a_lost_object_is_an_error_and_never_a_black_picture(stored: str) -> None:
    there = locate(stored)
    for name in ("train/x4/ihc/c/1/0/0/0/0", "train/x2/box/c/1/0/0", "test/pair/id/c/0"):
        there.remove(name)
    there.write("test/x4/ihc/c/1/0/0/0/0", b"")
    store = Store.open(stored)
    lost = (
        rf"picture 0 of pair 3 in \w+/x4/ihc of {stored} cannot be read \(.*; `python -m store verify {stored}` lists"
    )
    for split in Split.TRAIN, Split.TEST:
        with pytest.raises(StoreError, match=lost):
            store.picture(split, "x4", Stain.IHC, 3)
    with pytest.raises(StoreError, match=rf"table train/x2/box of {stored} .*\(its file c/1/0/0 is missing\)"):
        store.box(Split.TRAIN, "x2", 3)
    with pytest.raises(StoreError, match=rf"table test/pair/id of {stored} cannot be read \(its file c/0 is missing\)"):
        store.pairs(Split.TEST)
    assert store.picture(Split.TRAIN, "x4", Stain.IHC, 2).any()


def test_without_the_extra_the_message_says_so(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError, match=r"needs an extra; run `make setup`, or pip install '.\[cloud\]'"):
        Store.open(f"{bucket}/small.zarr")


def test_building_and_repairing(mist: Path, bucket: str, tmp_path: Path) -> None:
    """The command as it is typed; a bucket holds what a folder would."""
    address = f"{bucket}/s.zarr"
    run(lanczos(), mist, tmp_path / "s.zarr")
    run(lanczos(), mist, address)
    whole = objects(tmp_path / "s.zarr")
    assert objects(address) == whole
    run(lanczos(), mist, address)  # finished: nothing is done
    locate(address).remove("train/x4/he/c/1/0/0/0/0")
    repaired = prep("build", "--repair", "--store", address, "--data", mist, cwd=tmp_path)
    assert repaired.returncode == 0, repaired.stderr
    assert "1 unit(s) to build again: train-000001" in repaired.stderr
    assert objects(address) == whole
    with pytest.raises(
        StoreError,
        match=r"^zarr\.json of s3://nosuch/s\.zarr cannot be read: .*; there is no bucket 'nosuch' on that server; ",
    ):
        run(lanczos(), mist, "s3://nosuch/s.zarr")
