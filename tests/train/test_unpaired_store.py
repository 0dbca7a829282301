"""Unpaired stores in training: who can use them, what an epoch is, what is shown; who cannot says so at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from store.reader import Store
from store.run_files import RunFolder
from store.schema import Interrupted, SettingsError, Split, Stain
from tests.support.runs import assert_equal, state
from tests.support.tiny_run import NARROW, NARROW_CONTRAST, ONE_EPOCH, read_by
from tests.support.unpaired import NAMES, build_unpaired_store
from train.data.block_sampling import pairs_of_step, sample_blocks
from train.data.loader import read_batches
from train.data.sampling import PairRef, plan_order
from train.loop.fit import fit
from train.methods.outline import names_without_pairs
from train.methods.recipes import load_recipe
from train.methods.registry import METHODS
from train.predict import predict
from train.run.snapshots import choose_examples, choose_samples, read_samples
from train.settings import DataSettings, Sampling, TrainSettings

SHORT = [*NARROW, *NARROW_CONTRAST, *ONE_EPOCH, "generator.depth=5", "checkpoint_every=100"]
SHORT += ["sample_every=100", "generator.blocks=5", "data.views=['x1']"]
UNPAIRED = DataSettings(paired=False, batch=1, sampling=Sampling.SHUFFLED)
MORE_IHC = {Split.TRAIN: {Stain.HE: NAMES[Split.TRAIN][Stain.IHC], Stain.IHC: NAMES[Split.TRAIN][Stain.HE]}}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build_unpaired_store(tmp_path_factory.mktemp("unpaired") / "u.zarr")


@pytest.fixture(scope="module")
def more_ihc(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build_unpaired_store(tmp_path_factory.mktemp("unpaired") / "more.zarr", MORE_IHC)


def tiny(method: str, *overrides: str) -> TrainSettings:
    return load_recipe([], [f"method={method}", *read_by(method, SHORT), *overrides])


def both(pairs: list[PairRef]) -> tuple[Counter[int], Counter[int]]:
    return Counter(pair.he.pair for pair in pairs), Counter(pair.ihc.pair for pair in pairs)


@pytest.mark.parametrize("method", ["cut", "cyclegan"])
def test_a_run_is_resumed_bit_for_bit_and_translates_every_he(
    method: str, store: Store, tmp_path: Path, signal_at: Callable[[int], None]
) -> None:
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    fit(whole, store, tiny(method))
    signal_at(2)
    with pytest.raises(Interrupted, match="saved after step 2"):
        fit(cut, store, tiny(method))
    signal_at(0)
    torch.manual_seed(99)
    fit(cut, store, tiny(method))
    assert_equal(state(cut), state(whole))
    assert not whole.validation.exists()
    assert "unpaired: 7 H&E and 4 IHC train, 2 H&E and 2 IHC val" in whole.model_card.read_text()
    assert "the train tiles of both stains, unpaired" in whole.model_card.read_text()
    made = predict(whole, store, Split.TEST, "x1", "cpu")
    assert sorted(file.name for file in (made.folder / "fake").iterdir()) == ["d0_0_0.png", "d1_0_0.png"]


def test_a_run_says_what_it_does(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(RunFolder(tmp_path / "run"), store, tiny("fastcut"))
    said = " ".join(capsys.readouterr().err.split())
    assert "7 H&E and 4 IHC train tiles" in said
    assert "both stains are drawn separately, 7 of each in an epoch" in said
    assert "the store is unpaired: there is no validation (SSIM and PSNR need pairs: n/a)" in said


@pytest.mark.parametrize("paired", ["data.paired=true", "data.paired=false"])
@pytest.mark.parametrize("method", [name for name in METHODS if name not in names_without_pairs()])
def test_a_method_that_needs_pairs_is_refused_before_anything_is_written(
    method: str, paired: str, store: Store, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(SettingsError) as refused:
        fit(run, store, tiny(method, paired))
    assert str(refused.value).startswith(f"{store.address} is unpaired: ")
    assert f"method = {method}" in str(refused.value)
    assert "use a method that does not: cyclegan, cut, fastcut" in str(refused.value)
    assert not run.path.exists()


def test_pairs_asked_for_by_name_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"unpaired.*method = cut with data\.paired = true.*set data\.paired=false"):
        fit(RunFolder(tmp_path / "run"), store, tiny("cut", "data.paired=true"))


def test_the_names_are_those_of_methods_that_no_term_compares_with_a_pair() -> None:
    assert names_without_pairs() == ["cyclegan", "cut", "fastcut"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_every_tile_of_the_more_frequent_stain_comes_once_an_epoch(store: Store, more_ihc: Store, epoch: int) -> None:
    he, ihc = both(plan_order(store, UNPAIRED, seed=1, epochs=2).pairs_of_epoch(epoch))
    assert he == dict.fromkeys(range(7), 1)
    assert ihc.total() == 7
    assert ihc.keys() <= set(range(4))
    he, ihc = both(plan_order(more_ihc, UNPAIRED, seed=1, epochs=2).pairs_of_epoch(epoch))
    assert ihc == dict.fromkeys(range(7), 1)
    assert sorted(he.values()) == [1, 2, 2, 2]


@pytest.mark.parametrize("number", range(5))
def test_in_blocks_too(store: Store, more_ihc: Store, number: int) -> None:
    settings = replace(UNPAIRED, block=number + 1, buffer=5)
    he, ihc = both([p for block in sample_blocks(plan_order(store, settings, seed=1, epochs=1), 1) for p in block])
    assert he == dict.fromkeys(range(7), 1)
    assert ihc.keys() <= set(range(4))
    he, ihc = both([p for block in sample_blocks(plan_order(more_ihc, settings, seed=1, epochs=1), 1) for p in block])
    assert ihc == dict.fromkeys(range(7), 1)
    assert he.keys() <= set(range(4))


def test_with_replacement_both_stains_are_drawn(more_ihc: Store) -> None:
    order = plan_order(more_ihc, replace(UNPAIRED, sampling=Sampling.REPLACEMENT), seed=1, epochs=200)
    drawn = [both(order.pairs_of_epoch(epoch)) for epoch in range(1, 201)]
    assert any(ihc.keys() != set(range(7)) for _, ihc in drawn)
    assert sum((he for he, _ in drawn), Counter[int]()).keys() == set(range(4))
    assert sum((ihc for _, ihc in drawn), Counter[int]()).keys() == set(range(7))


@pytest.mark.parametrize("block", [0, 2])
def test_processes_share_the_pairs_of_a_step(store: Store, block: int) -> None:
    settings = replace(UNPAIRED, block=block, buffer=4)
    order = plan_order(store, settings, seed=1, epochs=1, processes=2)
    pairs = [pair for step in range(1, order.steps + 1) for pair in pairs_of_step(order, step)]
    assert len({pair.he.pair for pair in pairs}) == len(pairs) == 6
    for rank in range(2):
        for batch in read_batches(store, order, done=0, workers=0, pin=False, rank=rank):
            assert (batch.pixels.float().std(dim=(2, 3, 4)) > 0).all()


def test_workers_read_what_one_process_reads(store: Store) -> None:
    order = plan_order(store, replace(UNPAIRED, batch=2), seed=1, epochs=2)
    alone, helped = (list(read_batches(store, order, done=1, workers=workers, pin=False)) for workers in (0, 2))
    assert len(alone) == order.steps - 1
    assert all(torch.equal(one.pixels, two.pixels) for one, two in zip(alone, helped, strict=True))


def test_samples_show_no_pair_and_nothing_is_validated(store: Store) -> None:
    samples = read_samples(store, choose_samples(store, ["x1", "x2"]))
    assert samples.columns == ("H&E", "test, translated")
    assert [len(row.pictures) for row in samples.rows] == [1, 1]
    assert samples.refs[0].split is Split.VAL
    assert choose_examples(store, ["x1"]) == []


@pytest.mark.parametrize("missing", Stain)
def test_a_train_split_without_one_stain_is_refused(tmp_path: Path, missing: Stain) -> None:
    store = build_unpaired_store(tmp_path / "u.zarr", {Split.TRAIN: {**NAMES[Split.TRAIN], missing: []}})
    with pytest.raises(SettingsError, match=r"has \d H&E and \d IHC tiles in train; training needs both stains"):
        plan_order(store, UNPAIRED, seed=0, epochs=1)
