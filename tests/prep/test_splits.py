"""Slides from names, and splits by slide."""

from __future__ import annotations

import random

import pytest

from prep.settings import PrepSettings, SplitRule
from prep.tiles.splitting.slides import slide_per_tile, slides_by_grid, slides_by_pattern
from prep.tiles.splitting.splits import split_by_slide
from store.schema import PairingError, SettingsError, Split


def tiles_of(seed: int) -> dict[str, int]:
    draw = random.Random(seed)
    return {f"slide{index}": draw.randint(1, 60) for index in range(draw.randint(3, 40))}


def count(tiles: dict[str, int], splits: dict[str, Split], split: Split) -> int:
    return sum(tiles[slide] for slide in tiles if splits[slide] is split)


@pytest.mark.parametrize("seed", range(60))
def test_every_part_gets_a_slide_and_stays_within_its_fraction(seed: int) -> None:
    tiles = tiles_of(seed)
    splits = split_by_slide(tiles, seed=seed, val_fraction=0.1, test_fraction=0.2)
    assert splits.keys() == tiles.keys()  # one split per slide: no slide on two sides
    assert set(splits.values()) == set(Split)
    rest = sum(tiles.values())
    for split, fraction in ((Split.TEST, 0.2), (Split.VAL, 0.1)):
        taken = count(tiles, splits, split)
        slides = [slide for slide in tiles if splits[slide] is split]
        assert taken <= fraction * rest or len(slides) == 1  # one slide is taken even where none fits
        rest -= taken


@pytest.mark.parametrize("seed", range(30))
def test_the_fraction_is_reached_up_to_the_smallest_slide_left(seed: int) -> None:
    tiles = tiles_of(seed)
    splits = split_by_slide(tiles, seed=seed, val_fraction=0, test_fraction=0.3)
    train = [tiles[slide] for slide in tiles if splits[slide] is Split.TRAIN]
    assert count(tiles, splits, Split.TEST) + min(train) > 0.3 * sum(tiles.values()) or len(train) == 1


@pytest.mark.parametrize("seed", range(20))
def test_the_split_is_a_function_of_seed_and_slides_not_of_their_order(seed: int) -> None:
    tiles = tiles_of(seed)
    shuffled = list(tiles.items())
    random.Random(seed + 1).shuffle(shuffled)
    one = split_by_slide(tiles, seed=3, val_fraction=0.2, test_fraction=0.2)
    assert one == split_by_slide(dict(shuffled), seed=3, val_fraction=0.2, test_fraction=0.2)


def test_another_seed_is_another_split() -> None:
    tiles = {f"slide{index}": 10 for index in range(20)}
    drawn = {
        tuple(sorted(split_by_slide(tiles, seed=seed, val_fraction=0, test_fraction=0.2).items())) for seed in range(20)
    }
    assert len(drawn) > 15


def test_a_drawn_split_keeps_its_value() -> None:
    tiles = {"a": 5, "b": 5, "c": 5, "d": 5}
    # order of seed 0 by sha256("0/<slide>"), computed with sha256sum: c 2881, b 7d9a, d 9d84, a d321
    drawn = split_by_slide(tiles, seed=0, val_fraction=0.34, test_fraction=0.25)
    assert drawn == {"a": Split.TRAIN, "b": Split.VAL, "c": Split.TEST, "d": Split.TRAIN}


def test_no_part_takes_what_another_needs() -> None:
    three = {"small": 4, "middle": 8, "large": 28}
    for seed in range(20):
        splits = split_by_slide(three, seed=seed, val_fraction=0.5, test_fraction=0.9)
        assert sorted(splits.values()) == ["test", "train", "val"]
        splits = split_by_slide(three, seed=seed, val_fraction=0, test_fraction=0.05)
        assert splits == {"small": Split.TEST, "middle": Split.TRAIN, "large": Split.TRAIN}


def test_without_fractions_all_is_train() -> None:
    assert split_by_slide({"a": 3}, seed=0, val_fraction=0, test_fraction=0) == {"a": Split.TRAIN}


@pytest.mark.parametrize(
    ("tiles", "val", "test", "least"), [({"a": 9}, 0, 0.2, 2), ({"a": 9}, 0.2, 0, 2), ({"a": 9, "b": 1}, 0.1, 0.1, 3)]
)
def test_too_few_slides_are_refused(tiles: dict[str, int], val: float, test: float, least: int) -> None:
    with pytest.raises(PairingError) as caught:
        split_by_slide(tiles, seed=0, val_fraction=val, test_fraction=test)
    assert str(caught.value).startswith(f"{len(tiles)} slide(s) ({', '.join(tiles)}) cannot be split into train, ")
    assert f"at least {least} are needed; ask for fewer parts, or set a slide_pattern" in str(caught.value)
    assert str(caught.value).endswith("(make: SET='slide_pattern=^(.*)_y')")


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_impossible_fractions_are_refused(fraction: float) -> None:
    for val, test in ((fraction, 0.1), (0.1, fraction)):
        with pytest.raises(SettingsError, match=r"_fraction = .*: must be at least 0 and below 1"):
            split_by_slide({"a": 1, "b": 1, "c": 1}, seed=0, val_fraction=val, test_fraction=test)


def test_the_slide_is_the_first_group_or_the_whole_match() -> None:
    ids = ["lesion3-cd31_y74_x62", "ratkidney-pan_y0_x0"]
    assert slides_by_pattern(ids, r"^([a-z]+)").names == ("lesion", "ratkidney")
    assert slides_by_pattern(ids, r"^(?:lesion|ratkidney)").names == ("lesion", "ratkidney")
    assert slides_by_pattern(["A7/tile_0_1", "B/tile_0_1"], r"^([^/]+)/").names == ("A7", "B")


@pytest.mark.parametrize("pattern", [r"^(slide\d+)", r"^(x)?", r"^x*"])
def test_a_pattern_that_finds_no_slide_names_the_tile_and_itself(pattern: str) -> None:
    with pytest.raises(PairingError) as caught:
        slides_by_pattern(["deep/tile 7"], pattern)
    assert str(caught.value).startswith(f"tile 'deep/tile 7': slide_pattern {pattern!r} finds no slide in it")
    assert "correct the pattern: for example --set 'slide_pattern=^(.*)_y' (make: SET=" in str(caught.value)


def test_a_wrong_pattern_is_refused_with_an_example() -> None:
    with pytest.raises(
        SettingsError, match=r"slide_pattern '\^\(lesion' is no regular expression: missing \).*; correct it: for exam"
    ):
        slides_by_pattern(["a"], "^(lesion")


def test_grid_names_give_slides_and_one_other_name_takes_them_away() -> None:
    ids = ["100M2004069_10_9", "sub/100M2004069_3_12", "a_b_1_2"]
    assert slides_by_grid(ids, ids).names == ("100M2004069", "100M2004069", "a_b")
    assert slides_by_grid(ids, ids).notes == ()
    odd = [*ids, "tile7"]
    assert slides_by_grid(odd, odd) == slide_per_tile(odd, odd)
    assert slide_per_tile(odd, odd).names == tuple(odd)
    assert "set slide_pattern" in slide_per_tile(odd, odd).notes[0]


def drawn(tiles: dict[str, int], **named: str) -> dict[str, Split]:
    """The split of slides of which some are named, with fractions for both parts."""
    return split_by_slide(
        tiles,
        seed=0,
        val_fraction=0.25,
        test_fraction=0.25,
        named={slide: Split(part) for slide, part in named.items()},
    )


def test_slides_that_are_named_are_held_out_and_no_others() -> None:
    tiles = dict.fromkeys("abcdefgh", 5)
    assert [slide for slide, split in drawn(tiles, a="test", b="test").items() if split is Split.TEST] == ["a", "b"]
    both = drawn(tiles, a="test", b="val")
    assert {slide: split for slide, split in both.items() if split is not Split.TRAIN} == {"a": "test", "b": "val"}
    assert "val" in drawn(tiles, a="test").values()  # a part without names is drawn as before
    assert drawn(tiles, c="test")["c"] is Split.TEST


def test_slides_in_hand_need_slides_that_are_left_for_train() -> None:
    with pytest.raises(PairingError, match="name all 2 slides; leave at least one for train"):
        drawn({"a": 5, "b": 5}, a="test", b="val")
    with pytest.raises(PairingError, match=r"1 slide.* \(b\) beside the 1 that test_slides and val_slides name"):
        drawn({"a": 5, "b": 5}, a="test")


def test_test_slides_go_with_a_split_by_slide_and_stand_in_one_part() -> None:
    with pytest.raises(SettingsError, match=r"test_slides = \['a'\] chooses the test set, and split = published"):
        PrepSettings(test_slides=("a",))
    with pytest.raises(SettingsError, match="slide 'a' is in test_slides and in val_slides"):
        PrepSettings(test_slides=("a", "b"), val_slides=("a",), split=SplitRule.BY_SLIDE)
