"""Pairs by name, and their splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prep.build.bad_pairs import refuse_bad
from prep.settings import PrepSettings, SplitRule
from prep.tiles.discovery import Data, find_pairs
from prep.tiles.splitting.splits import hold_out_val, resplit
from store.schema import PairingError, SettingsError, Split
from tests.support.tile_folders import MIST, discover, ids, touch


def test_nested_folders_pair_by_their_path(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{stain}/{name}" for stain in ("HE", "IHC") for name in ("c1/t/a.png", "c2/t/a.png", "a.png")))
    found = discover(tmp_path)
    assert ids(found) == ["a", "c1/t/a", "c2/t/a"]
    assert [c.slide for c in discover(tmp_path, slide_pattern="^[^/]+").candidates] == ["a", "c1", "c2"]


def test_unpaired_tiles_are_collected_with_what_they_lack(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/s_0_0.jpg" for part in MIST), "trainA/s_1_0.jpg", "valB/s_2_0.jpg", "trainB/s_3_0.jpg")
    found = discover(tmp_path)
    assert len(found.candidates) == 2
    assert [(bad.split, bad.he, bad.ihc, bad.reason) for bad in found.unpaired] == [
        ("train", "trainA/s_1_0.jpg", "", "no IHC tile of that name in trainB"),
        ("train", "", "trainB/s_3_0.jpg", "no H&E tile of that name in trainA"),
        ("test", "", "valB/s_2_0.jpg", "no H&E tile of that name in valA"),
    ]
    with pytest.raises(PairingError) as caught:
        refuse_bad(found.unpaired, found.layout)
    assert str(caught.value) == (
        "3 bad pairs: 1 H&E without IHC: 'trainA/s_1_0.jpg'; 2 IHC without H&E: 'trainB/s_3_0.jpg', "
        "'valB/s_2_0.jpg'; correct them, or skip them with --skip-bad (make: SKIP_BAD=1)"
    )
    refuse_bad((), found.layout)


def test_a_split_by_slide_is_disjoint_whatever_was_published(tmp_path: Path) -> None:
    names = [f"s{slide}_{row}_0" for slide in range(10) for row in range(4)]
    touch(tmp_path, *(f"train{part}/{name}.jpg" for part in "AB" for name in names if name[-3] != "3"))
    touch(tmp_path, *(f"val{part}/{name}.jpg" for part in "AB" for name in names if name[-3] == "3"))
    published = discover(tmp_path)
    assert {c.slide for c in published.candidates if c.split is Split.TEST} == {f"s{n}" for n in range(10)}
    drawn = resplit(published, seed=1, val_fraction=0.2, test_fraction=0.2)
    slides = {split: {c.slide for c in drawn.candidates if c.split is split} for split in Split}
    assert [len(slides[split]) for split in Split] == [7, 1, 2]
    assert not (slides[Split.TRAIN] & slides[Split.TEST]) | (slides[Split.VAL] & slides[Split.TEST])
    assert {replace(c, split=Split.TRAIN) for c in drawn.candidates} == {
        replace(c, split=Split.TRAIN) for c in published.candidates
    }
    assert drawn == resplit(published, seed=1, val_fraction=0.2, test_fraction=0.2)
    assert drawn != resplit(published, seed=2, val_fraction=0.2, test_fraction=0.2)
    held = hold_out_val(published, seed=1, val_fraction=0.2)
    assert ids(held, Split.TEST) == ids(published, Split.TEST)
    assert len({c.slide for c in held.candidates if c.split is Split.VAL}) == 2
    train, val = ({c.slide for c in held.candidates if c.split is split} for split in (Split.TRAIN, Split.VAL))
    assert not train & val


def test_tiles_of_equal_name_cannot_meet_in_one_split(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{name}" for part in MIST for name in ("a_0_0.png", "b_0_0.png", "c_0_0.png")))
    with pytest.raises(PairingError) as caught:
        resplit(discover(tmp_path), seed=0, val_fraction=0, test_fraction=0.4)
    assert "'trainA/a_0_0.png' and 'valA/a_0_0.png' would both be 'a_0_0' in " in str(caught.value)
    assert "keep the published split" in str(caught.value)


def test_a_pattern_that_finds_no_slide_is_an_error_with_the_tile(tmp_path: Path) -> None:
    touch(tmp_path, "HE/a_1.png", "IHC/a_1.png", "HE/odd.png", "IHC/odd.png")
    with pytest.raises(PairingError, match=r"tile 'odd': slide_pattern .* finds no slide in it"):
        discover(tmp_path, slide_pattern=r"^(.+)_\d")
    with pytest.raises(SettingsError, match="is no regular expression"):
        discover(tmp_path, slide_pattern="(")


@pytest.mark.parametrize("split", SplitRule)
def test_no_pair_at_all_is_an_error_with_a_name_of_each_stain(tmp_path: Path, split: SplitRule) -> None:
    touch(tmp_path, *(f"HE/s_{n}_1_HE.png" for n in range(4)), *(f"IHC/s_{n}_1_IHC.jpg" for n in range(3)))
    for data in (Data(he=tmp_path, ihc=tmp_path), Data(he=tmp_path / "HE", ihc=tmp_path / "IHC")):
        with pytest.raises(PairingError) as caught:
            find_pairs(PrepSettings(split=split), data)
        assert "no pair was found: no H&E and IHC tile have the same name; 4 H&E tile(s), for example " in str(
            caught.value
        )
        assert "s_0_1_HE.png', and 3 IHC tile(s), for example '" in str(caught.value)
        assert "s_0_1_IHC.jpg'; --set 'he_name={}_HE' --set 'ihc_name={}_IHC' (make: SET=" in str(caught.value)


def test_a_data_set_without_a_test_set_needs_a_split_by_slide(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{stain}/s{n}_1_1.png" for stain in ("HE", "IHC") for n in range(4)))
    data = Data(he=tmp_path, ihc=tmp_path)
    with pytest.raises(PairingError, match=r"layout folders has no test set .* --set split=by-slide \(make: SET="):
        find_pairs(PrepSettings(), data)
    assert ids(find_pairs(PrepSettings(split=SplitRule.BY_SLIDE), data), Split.TEST)


def test_the_name_of_a_data_set_is_that_of_its_folder(tmp_path: Path) -> None:
    assert Data(he=tmp_path / "HER2", ihc=tmp_path / "HER2").name == "HER2"
    assert Data(he=tmp_path / "ER" / "HE", ihc=tmp_path / "ER" / "IHC").name == "ER"
