"""Slides in hand: test_slides and val_slides choose what is held out, by the names that the plan lists."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from prep.settings import PrepSettings, SplitRule
from prep.tiles.discovery import Data, find_pairs
from store.schema import PairingError, Split
from tests.support.tile_folders import touch
from tests.support.tiles import single

BY_SLIDE = SplitRule.BY_SLIDE


def split_of_slides(data: Path, settings: PrepSettings) -> dict[str, set[Split]]:
    found: dict[str, set[Split]] = {}
    for candidate in find_pairs(settings, single(data)).candidates:
        found.setdefault(candidate.slide, set()).add(candidate.split)
    return found


def folders(root: Path) -> Path:
    for slide in ("s1", "s2", "s3", "s4"):
        for tile in range(3):
            touch(root, f"HE/{slide}_0_{tile}.png", f"IHC/{slide}_0_{tile}.png")
    return root


def published(root: Path) -> Path:
    for slide, part in (("s1", "train"), ("s2", "train"), ("s3", "train"), ("s4", "test")):
        touch(root, f"HE/{part}/{slide}_0_0.png", f"IHC/{part}/{slide}_0_0.png")
    return root


def test_the_named_slides_are_test_and_val(tmp_path: Path) -> None:
    data = folders(tmp_path)
    settings = PrepSettings(split=BY_SLIDE, test_slides=("s3",), val_slides=("s1",))
    assert split_of_slides(data, settings) == {"s1": {"val"}, "s2": {"train"}, "s3": {"test"}, "s4": {"train"}}


def test_val_slides_are_taken_from_train_of_a_published_split(tmp_path: Path) -> None:
    data = published(tmp_path)
    found = split_of_slides(data, PrepSettings(val_slides=("s2",)))
    assert found == {"s1": {"train"}, "s2": {"val"}, "s3": {"train"}, "s4": {"test"}}
    with pytest.raises(
        PairingError,
        match=r"val_slides: slide 's4' is in test, as published, .* --set split=by-slide",
    ):
        split_of_slides(data, PrepSettings(val_slides=("s4",)))


def test_two_forms_of_unicode_are_one_slide(tmp_path: Path) -> None:
    composed, parted = (unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD"))
    for name in (f"{composed}_0_0", f"{parted}_0_1", "s_0_0", "t_0_0"):
        touch(tmp_path, f"HE/{name}.png", f"IHC/{name}.png")
    (tmp_path / "t.csv").write_text(
        "he,ihc,slide\n"
        + "".join(f"HE/{s}_0_{n}.png,IHC/{s}_0_{n}.png,{s}\n" for s, n in ((composed, 0), (parted, 1), ("s", 0)))
    )
    table = Data(he=tmp_path, ihc=tmp_path, table=tmp_path / "t.csv")
    for data, asked in ((single(tmp_path), composed), (single(tmp_path), parted), (table, composed), (table, parted)):
        found = find_pairs(PrepSettings(split=BY_SLIDE, test_slides=(asked,)), data)
        held = [candidate for candidate in found.candidates if candidate.split is Split.TEST]
        assert len(held) == 2
        assert len({candidate.slide for candidate in held}) == 1


def test_a_slide_that_is_not_there_is_answered_with_the_nearest_or_all(tmp_path: Path) -> None:
    data = folders(tmp_path)
    with pytest.raises(PairingError, match=r"test_slides: .* of slide 's11'; did you mean 's1'"):
        split_of_slides(data, PrepSettings(split=BY_SLIDE, test_slides=("s11",)))
    with pytest.raises(PairingError, match=r"of slide 'patient'; the slides are s1, s2, s3, s4; names as the plan"):
        split_of_slides(data, PrepSettings(split=BY_SLIDE, test_slides=("patient",)))
