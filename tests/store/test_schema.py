"""The facts of a store: what they refuse, and the plan of arrays, shards and units."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.format.layout import plan_arrays, plan_units
from store.format.manifest import all_units
from store.pairs.table import Pair, Table
from store.schema import Box, SchemaError, Source, Split, Stain, StoreError, View
from store.untrusted.names import picture_name
from tests.support.stores import small_manifest


@pytest.mark.parametrize(("top", "left", "side"), [(-1, 0, 4), (0, -1, 4), (0, 0, 0)])
def test_a_box_lies_on_the_tile_and_has_a_side(top: int, left: int, side: int) -> None:
    with pytest.raises(SchemaError, match=r"the corner must be >= 0 and the side >= 1"):
        Box(top=top, left=left, side=side)


def test_a_view_has_a_zoom_and_pictures() -> None:
    with pytest.raises(SchemaError, match="zoom and count must be at least 1"):
        View(zoom=0, source=Source.FIELD)
    with pytest.raises(SchemaError, match="x1 shows the whole tile: 3 boxes give the same picture; use 1"):
        View(zoom=1, source=Source.FIELD, count=3)
    assert View(zoom=4, source=Source.NATIVE, count=3).name == "x4"


def test_a_manifest_refuses_what_no_store_can_hold() -> None:
    manifest = small_manifest()
    for broken in ({"tile_side": 0}, {"view_side": 0}, {"unit": 0}, {"counts": {Split.VAL: 0}}):
        with pytest.raises(SchemaError, match="must all be at least 1; omit a split that has no pairs"):
            replace(manifest, **broken)
    with pytest.raises(SchemaError, match=r"zooms \[1, 1\]: give at least one, and none twice"):
        replace(manifest, views=(manifest.views[0], manifest.views[0]))
    with pytest.raises(SchemaError, match=r"zooms \[\]: give at least one"):
        replace(manifest, views=())


def test_a_view_that_does_not_exist_is_answered_with_those_that_do() -> None:
    assert small_manifest().view("x4").zoom == 4
    with pytest.raises(StoreError, match="no view 'x8' in this store; it has x1, x2, x4"):
        small_manifest().view("x8")


@pytest.mark.parametrize(("pairs", "unit"), [(1, 1), (7, 3), (8, 4), (3, 16), (4642, 16)])
def test_units_cover_every_pair_once_in_order(pairs: int, unit: int) -> None:
    units = plan_units(Split.TRAIN, pairs, unit)
    assert [row for each in units for row in each.pairs] == list(range(pairs))
    assert [each.index for each in units] == list(range(-(-pairs // unit)))
    assert {len(each.pairs) for each in units[:-1]} <= {unit}
    assert sorted(each.name for each in units) == [each.name for each in units]  # the journal lists them in order


def test_no_units_without_pairs() -> None:
    assert plan_units(Split.VAL, 0, 4) == []


def test_the_arrays_of_the_small_store() -> None:
    manifest = small_manifest(boxes=2)
    plans = {plan.path: plan for plan in plan_arrays(manifest, Split.TRAIN)}
    assert list(plans) == [
        *(f"train/x{zoom}/{kind}" for zoom in (1, 2, 4) for kind in ("he", "ihc", "box")),
        "train/tile/he",
        "train/tile/ihc",
    ]
    assert plans["train/x1/he"].shape == (8, 1, 64, 64, 3)
    assert plans["train/x4/ihc"].shape == (8, 2, 64, 64, 3)
    assert plans["train/x4/ihc"].chunk == (1, 1, 64, 64, 3)
    assert plans["train/x4/ihc"].shard == (3, 2, 64, 64, 3)
    assert plans["train/x4/box"].shape == (8, 2, 3)
    assert plans["train/tile/he"].shape == (8, 128, 128, 3)
    assert plans["train/tile/he"].pictures
    assert not plans["train/x4/box"].pictures
    pixels = 2 * 8 * 3 * ((1 + 2 + 2) * 64**2 + 128**2)
    assert sum(plan.nbytes for plan in plans.values()) == pixels + 4 * 3 * 8 * (1 + 2 + 2)


def test_tiles_of_train_are_optional_and_those_of_test_are_not() -> None:
    manifest = replace(small_manifest(), keep_tiles=False)
    kept = {split for split in manifest.counts for plan in plan_arrays(manifest, split) if "/tile/" in plan.path}
    assert kept == {Split.TEST}


def test_every_shard_belongs_to_one_unit() -> None:
    manifest = small_manifest(boxes=2)
    names = [plan.shard_name(unit) for unit in all_units(manifest) for plan in plan_arrays(manifest, unit.split)]
    assert len(names) == len(set(names)) == 11 * (3 + 2)  # 11 arrays; 8 and 4 pairs in units of 3
    assert "test/x2/ihc/c/1/0/0/0/0" in names
    assert "train/tile/he/c/2/0/0/0" in names
    assert "train/x1/box/c/0/0/0" in names


def test_picture_names_are_unique_over_pairs_and_pictures() -> None:
    assert picture_name("ä b/c", 0, 1) == "ä b/c.png"
    names = {picture_name(pair, index, 3) for pair in ("a", "a.1", "b") for index in range(3)}
    assert len(names) == 9


def test_words_of_the_format() -> None:
    assert [*Split] == ["train", "val", "test"]
    assert [*Stain] == ["he", "ihc"]


def test_leaking_slides_are_those_in_two_splits() -> None:
    def rows(*slides: str) -> tuple[Pair, ...]:
        return tuple(
            Pair(id=f"{s}{row}", slide=s, he="a.png", ihc="b.png", he_digest="", ihc_digest="")
            for row, s in enumerate(slides)
        )

    table = Table(pairs={Split.TRAIN: rows("a", "b", "b"), Split.VAL: rows("b"), Split.TEST: rows("c", "a")})
    assert table.leaking == ("a", "b")
    assert table.slides[Split.TRAIN] == {"a", "b"}
    assert Table(pairs={Split.TRAIN: rows("a", "b")}).leaking == ()
