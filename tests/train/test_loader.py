"""What a run reads: the order is pure and fair, both stains get one geometry, workers change nothing."""

from __future__ import annotations

import os
import pickle
import shutil
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from store.reader import TILE, Store
from store.schema import SettingsError, Split, Stain, StoreError
from train.data.batch import RawBatch
from train.data.loader import StorePictures, read_batches, to_batch
from train.data.sampling import PairRef, PictureRef, ReadingOrder, ViewShare, plan_order, sample_pairs
from train.settings import DataSettings, Sampling

VIEWS = tuple(ViewShare(view=view, share=1 / 3, count=2) for view in ("x1", "x2", "x4"))
ORDER = ReadingOrder(
    seed=3, pairs=10, views=VIEWS, batch=3, epochs=4, paired=True, sampling=Sampling.REPLACEMENT, flip=True
)


def many_pairs(
    sampling: Sampling = Sampling.REPLACEMENT, views: tuple[ViewShare, ...] = VIEWS, *, paired: bool = True
) -> list[PairRef]:
    return sample_pairs((0, 1), pairs=30_000, views=views, paired=paired, sampling=sampling, flip=True)


def many(sampling: Sampling = Sampling.REPLACEMENT, views: tuple[ViewShare, ...] = VIEWS) -> list[PictureRef]:
    return [pair.he for pair in many_pairs(sampling, views)]


def read(store: Store, order: ReadingOrder, workers: int = 0, done: int = 0) -> list[RawBatch]:
    return list(read_batches(store, order, done=done, workers=workers, pin=False))


def test_sampled_pairs_are_a_function_of_seed_and_epoch_alone() -> None:
    first = ORDER.pairs_of_epoch(2)
    torch.manual_seed(5)
    np.random.default_rng(5).random()
    assert ORDER.pairs_of_epoch(2) == first
    assert ORDER.pairs_of_epoch(3) != first
    assert replace(ORDER, seed=4).pairs_of_epoch(2) != first
    assert pickle.loads(pickle.dumps(ORDER)).pairs_of_epoch(2) == first


@pytest.mark.parametrize("done", [0, 1, 2, 3, 4, 8, 11, 12])
def test_the_order_after_any_step_is_the_rest_of_the_whole_order(done: int) -> None:
    everything = list(ORDER.batches(0))
    assert len(everything) == ORDER.steps == 12  # 10 // 3 = 3 batches of each of 4 epochs
    assert list(ORDER.batches(done)) == everything[done:]


def test_steps_belong_to_epochs_counted_from_one() -> None:
    assert [ORDER.epoch(step) for step in (1, 3, 4, 6, 7, 12)] == [1, 1, 2, 2, 3, 4]


@pytest.mark.parametrize("weights", [(1, 1, 1), (2, 1, 1)])
def test_views_are_drawn_as_often_as_their_weights_say(weights: tuple[int, ...]) -> None:
    shares = [weight / sum(weights) for weight in weights]
    views = tuple(replace(view, share=share) for view, share in zip(VIEWS, shares, strict=True))
    pairs = Counter(pair.view for pair in many(views=views))
    for view in views:
        expected, spread = 30_000 * view.share, (30_000 * view.share * (1 - view.share)) ** 0.5
        assert abs(pairs[view.view] - expected) < 4 * spread


def test_flips_pictures_and_corners_are_uniform() -> None:
    pairs = many()
    assert abs(np.mean([pair.flip for pair in pairs]) - 0.5) < 4 * 0.5 / 30_000**0.5
    assert Counter(pair.index for pair in pairs).keys() == {0, 1}
    corners = np.array([pair.crop for pair in pairs])
    assert corners.min() >= 0
    assert corners.max() < 1
    np.testing.assert_allclose(corners.mean(axis=0), 0.5, atol=4 * 12**-0.5 / 30_000**0.5)
    still = sample_pairs((0, 1), pairs=99, views=VIEWS, paired=False, sampling=Sampling.SHUFFLED, flip=False)
    assert not any(ref.flip for pair in still for ref in (pair.he, pair.ihc))


def test_shuffled_reads_each_pair_once_and_replacement_63_percent() -> None:
    assert Counter(pair.pair for pair in many(Sampling.SHUFFLED)) == dict.fromkeys(range(30_000), 1)
    distinct = len({pair.pair for pair in many()})
    assert abs(distinct / 30_000 - (1 - np.exp(-1))) < 0.01


def test_pairs_are_seen_with_one_geometry() -> None:
    assert all(pair.he == pair.ihc for pair in many_pairs())


def test_unpaired_the_ihc_is_of_any_pair_in_the_same_view_and_what_is_seen_of_the_he_stays() -> None:
    """As in the unaligned loaders: H&E each once, IHC at random, independently."""
    pairs = many_pairs(Sampling.SHUFFLED, paired=False)
    assert [pair.he for pair in pairs] == many(Sampling.SHUFFLED)
    assert all(pair.he.view == pair.ihc.view for pair in pairs)
    assert sum(pair.he.pair == pair.ihc.pair for pair in pairs) < 10  # one is expected
    distinct = len({pair.ihc.pair for pair in pairs})
    assert abs(distinct / 30_000 - (1 - np.exp(-1))) < 0.01
    for he, ihc in (
        ([d.he.flip for d in pairs], [d.ihc.flip for d in pairs]),
        ([d.he.crop[0] for d in pairs], [d.ihc.crop[0] for d in pairs]),
    ):
        assert abs(np.corrcoef(he, ihc)[0, 1]) < 4 / 30_000**0.5


def test_an_unpaired_batch_is_the_stores_pictures_each_with_its_own_flip(small_store: Store) -> None:
    order = plan_order(small_store, DataSettings(batch=4, paired=False), seed=1, epochs=2)
    mirrored = set()
    for pairs, raw in zip(order.batches(0), read(small_store, order), strict=True):
        batch = to_batch(raw, torch.device("cpu"))
        for row, pair in enumerate(pairs):
            mirrored.add((pair.he.flip, pair.ihc.flip))
            for signed, ref, stain in ((batch.he, pair.he, Stain.HE), (batch.ihc, pair.ihc, Stain.IHC)):
                picture = small_store.picture(Split.TRAIN, ref.view, stain, ref.pair, ref.index)
                expected = (picture[:, ::-1] if ref.flip else picture) / 127.5 - 1
                np.testing.assert_allclose(signed[row].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    assert len(mirrored) == 4


def test_a_batch_is_the_stores_pictures_in_the_range_of_the_networks(small_store: Store) -> None:
    order = plan_order(small_store, DataSettings(batch=4), seed=1, epochs=3)
    for pairs, raw in zip(order.batches(0), read(small_store, order), strict=True):
        batch = to_batch(raw, torch.device("cpu"))
        assert batch.he.shape == batch.ihc.shape == (4, 3, 64, 64)
        assert batch.he.is_contiguous(memory_format=torch.channels_last)
        for row, pair in enumerate(pair.he for pair in pairs):
            for signed, stain in ((batch.he[row], Stain.HE), (batch.ihc[row], Stain.IHC)):
                picture = small_store.picture(Split.TRAIN, pair.view, stain, pair.pair, pair.index)
                expected = (picture[:, ::-1] if pair.flip else picture) / 127.5 - 1
                np.testing.assert_allclose(signed.permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_bytes_become_exactly_minus_one_to_one() -> None:
    raw = RawBatch(
        torch.tensor([0, 255] * 3, dtype=torch.uint8).view(3, 2).t().reshape(2, 1, 1, 1, 3),
        torch.tensor([[False], [False]]),
    )
    batch = to_batch(raw, torch.device("cpu"))
    assert (batch.he == -1).all()
    assert (batch.ihc == 1).all()


def test_a_crop_of_a_tile_is_the_same_place_in_both_stains_and_reaches_the_edges(small_store: Store) -> None:
    pictures = StorePictures(small_store)
    tiles = [small_store.planes(Split.TRAIN, TILE, stain, 5) for stain in Stain]
    for crop, top, left in (((0.0, 0.0), 0, 0), ((0.9999, 0.9999), 64, 64), ((0.5, 0.25), 32, 16)):
        ref = PictureRef(pair=5, view=TILE, index=0, flip=False, crop=crop)
        raw = pictures.__getitems__([PairRef(he=ref, ihc=ref)])
        assert isinstance(raw, RawBatch)
        for pixels, tile in zip(raw.pixels[:, 0].numpy(), tiles, strict=True):
            np.testing.assert_array_equal(pixels.transpose(2, 0, 1), tile[:, top : top + 64, left : left + 64])


def test_workers_and_a_continued_stream_change_nothing(small_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set())  # PyTorch warns of more workers than cores
    order = plan_order(small_store, DataSettings(views=("x1", "x4", TILE), batch=2), seed=2, epochs=2)
    plain = read(small_store, order)
    assert len(plain) == 8
    state = torch.get_rng_state()
    for other, start in ((read(small_store, order, workers=1), 0), (read(small_store, order, done=3), 3)):
        for one, two in zip(plain[start:], other, strict=True):
            assert torch.equal(one.pixels, two.pixels)
            assert torch.equal(one.flips, two.flips)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_stops_the_stream_with_the_stores_error(
    small_store: Store, tmp_path: Path, workers: int
) -> None:
    shutil.copytree(small_store.path, tmp_path / "damaged.zarr")
    store = Store.open(tmp_path / "damaged.zarr")
    for shard in (store.path / "train/x1/ihc/c").rglob("0"):
        if shard.is_file():
            shard.chmod(0o644)
            shard.write_bytes(shard.read_bytes()[:-40])
    order = plan_order(store, DataSettings(views=("x1",)), seed=0, epochs=1)
    with pytest.raises(StoreError, match=r"train/x1/ihc of .* cannot be read"):
        read(store, order, workers)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DataSettings(batch=9), "data.batch = 9: the store has 8 train pairs.*at most 8"),
        (DataSettings(views=("x1", "x8")), "'x8', but .* has x1, x2, x4, tile"),
    ],
)
def test_what_the_store_cannot_give_is_refused(small_store: Store, settings: DataSettings, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        plan_order(small_store, settings, seed=0, epochs=1)


def test_tiles_are_refused_where_train_has_none(small_store: Store) -> None:
    without = Store(small_store.path, replace(small_store.manifest, keep_tiles=False))
    with pytest.raises(SettingsError, match="built without the tiles of train"):
        plan_order(without, DataSettings(views=(TILE,)), seed=0, epochs=1)


def test_a_stream_that_is_closed_early_ends(small_store: Store) -> None:
    order = plan_order(small_store, DataSettings(), seed=0, epochs=50)
    stream = read_batches(small_store, order, done=0, workers=1, pin=False)
    assert len(list(islice(stream, 2))) == 2
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)
