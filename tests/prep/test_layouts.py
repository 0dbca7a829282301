"""Layouts: which one a folder has, and which names are pictures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prep.settings import Layout, PrepSettings
from prep.tiles.discovery import Data, find_pairs
from store.schema import PairingError, Split
from tests.support.tile_folders import MIST, discover, discover_folders, ids, touch

ODD_NAMES = ("sp ace", 'quo\'te "x"', "Größe µm 漢字", "up..down", "a.b.c", "-dash", "100%", "[x]*?")


def refusal(data: Path, layout: Layout = Layout.AUTO) -> str:
    with pytest.raises(PairingError) as caught:
        discover(data, layout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mist_held_out_folders_are_the_test_split_and_slides_come_from_names(tmp_path: Path) -> None:
    for folder, names in (("train", ["9M1_10_9", "9M1_2_0", "8M7_0_0"]), ("val", ["7M3_1_1"])):
        touch(tmp_path, *(f"{folder}{part}/{name}.jpg" for part in "AB" for name in names))
    found = discover(tmp_path)
    assert (found.layout, found.published, found.unpaired, found.notes) == (Layout.MIST, True, (), ())
    assert [(c.split, c.id, c.slide, c.he, c.ihc) for c in found.candidates] == [
        ("train", "8M7_0_0", "8M7", "trainA/8M7_0_0.jpg", "trainB/8M7_0_0.jpg"),
        ("train", "9M1_10_9", "9M1", "trainA/9M1_10_9.jpg", "trainB/9M1_10_9.jpg"),
        ("train", "9M1_2_0", "9M1", "trainA/9M1_2_0.jpg", "trainB/9M1_2_0.jpg"),
        ("test", "7M3_1_1", "7M3", "valA/7M3_1_1.jpg", "valB/7M3_1_1.jpg"),
    ]


def test_mist_is_found_below_its_folder_in_any_case_and_under_either_name(tmp_path: Path) -> None:
    touch(tmp_path / "HER2" / "TrainValAB", *(f"{part}/s_0_0.png" for part in ("TRAINa", "trainb", "testA", "testB")))
    found = discover(tmp_path / "HER2")
    assert (ids(found), ids(found, Split.TEST)) == (["s_0_0"], ["s_0_0"])
    assert found.candidates[1].he == "TrainValAB/testA/s_0_0.png"
    assert ids(discover(tmp_path)) == ["s_0_0"]


def test_bci_numbers_are_no_slides_and_a_note_says_so(tmp_path: Path) -> None:
    for split, names in (("train", ["00000_train_1+", "00001_train_3+"]), ("test", ["00000_test_0"])):
        touch(tmp_path, *(f"{stain}/{split}/{name}.png" for stain in ("HE", "IHC") for name in names))
    found = discover(tmp_path)
    assert (found.layout, found.published) == (Layout.BCI, True)
    assert [(c.split, c.id, c.slide, c.ihc) for c in found.candidates] == [
        ("train", "00000_train_1+", "train/00000_train_1+", "IHC/train/00000_train_1+.png"),
        ("train", "00001_train_3+", "train/00001_train_3+", "IHC/train/00001_train_3+.png"),
        ("test", "00000_test_0", "test/00000_test_0", "IHC/test/00000_test_0.png"),
    ]
    assert found.notes[0] == "BCI has 3896 + 977 pairs, here are 2 + 1"
    assert "slides are unknown" in found.notes[1]
    assert "set slide_pattern" in found.notes[1]
    assert "--set 'slide_pattern=^(.*)_y' (make: SET='slide_pattern=^(.*)_y')" in found.notes[1]
    by_score = discover(tmp_path, slide_pattern=r"_(\d\+?)$")
    assert [c.slide for c in by_score.candidates] == ["1+", "3+", "0"]
    touch(tmp_path / "own", *(f"{s}/{n}.png" for s in ("HE", "IHC") for n in ("train/s1_0_2", "test/s2_0_0")))
    assert [c.slide for c in discover(tmp_path / "own").candidates] == ["s1", "s2"]


def test_folders_that_say_the_other_stain_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "HE/a.png", "ER/a.png", "x/a.png")
    told = "folder 'ER' is given for H&E and 'HE' for IHC, and their names say the opposite: swap --he and --ihc"
    assert told in discover_folders(tmp_path / "ER", tmp_path / "HE").notes
    for he, ihc in (("HE", "ER"), ("x", "HE"), ("ER", "x")):
        assert told not in discover_folders(tmp_path / he, tmp_path / ihc).notes


def test_two_folders_pair_by_name_whatever_the_kind_of_file(tmp_path: Path) -> None:
    touch(
        tmp_path, "one/a.jpg", "one/b.PNG", "one/c.tif", "two/a.png", "two/b.bmp", "two/c.tiff", "HE/x.png", "IHC/x.bmp"
    )
    found = discover_folders(tmp_path / "one", tmp_path / "two")
    assert [(c.id, c.he, c.ihc) for c in found.candidates] == [
        ("a", "a.jpg", "a.png"), ("b", "b.PNG", "b.bmp"), ("c", "c.tif", "c.tiff")
    ]  # fmt: skip
    assert (found.layout, found.published) == (Layout.FOLDERS, False)
    inside = discover(tmp_path)
    assert [(c.id, c.he, c.ihc) for c in inside.candidates] == [("x", "HE/x.png", "IHC/x.bmp")]
    with pytest.raises(PairingError, match=r"one: is given for both H&E and IHC; name two folders"):
        discover_folders(tmp_path / "one", tmp_path / "two" / ".." / "one")


def test_side_by_side_pictures_hold_both_stains(tmp_path: Path) -> None:
    touch(tmp_path / "split", "train/a.png", "train/b.png", "test/a.png")
    found = discover(tmp_path / "split")
    assert (found.layout, found.sources.joined, found.published) == (Layout.SIDE_BY_SIDE, True, True)
    assert [(c.split, c.id, c.he, c.ihc) for c in found.candidates] == [
        ("train", "a", "train/a.png", "train/a.png"),
        ("train", "b", "train/b.png", "train/b.png"),
        ("test", "a", "test/a.png", "test/a.png"),
    ]
    assert len({c.slide for c in found.candidates}) == 3  # equal names in two splits are two tiles
    touch(tmp_path / "flat", "a.png", "deep/b.png")
    assert ids(discover(tmp_path / "flat", Layout.SIDE_BY_SIDE)) == ["a", "deep/b"]


def test_odd_names_are_names(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{stain}/{name}.png" for stain in ("HE", "IHC") for name in ODD_NAMES))
    found = discover(tmp_path)
    assert sorted(ids(found)) == sorted(ODD_NAMES)
    assert {c.he for c in found.candidates} == {f"HE/{name}.png" for name in ODD_NAMES}


@pytest.mark.parametrize("bad", [b"line\nbreak.png", b"bell\x07.png", b"latin-\xe9.png"])
def test_names_that_cannot_be_stored_as_text_are_refused(tmp_path: Path, bad: bytes) -> None:
    touch(tmp_path, "HE/a.png", "IHC/a.png")
    Path(os.fsdecode(os.fsencode(tmp_path / "HE") + b"/" + bad)).touch()
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path / 'HE'}: the file name ")
    assert message.endswith("a control character or a byte that is not UTF-8; rename the file")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("back\\slash", "holds a backslash, which separates folders on Windows"),
        ("NUL", "has the part 'NUL', which is a device on Windows"),
        ("aux/1", "has the part 'aux', which is a device on Windows"),
        (
            "tile ",
            "has the part 'tile ', which begins or ends with a blank or a dot",
        ),
        (
            "tile.",
            "has the part 'tile.', which begins or ends with a blank or a dot",
        ),
        ("left\u202eright", "holds '\\u202e', a control character or a byte that is not UTF-8"),
    ],
)
def test_names_that_are_no_file_elsewhere_are_refused(tmp_path: Path, name: str, fault: str) -> None:
    touch(tmp_path, "HE/a.png", "IHC/a.png", f"HE/{name}.png", f"IHC/{name}.png")
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path / 'HE'}: the file name {f'{name}.png'!r} {fault}")
    assert message.endswith("; rename the file")


@pytest.mark.parametrize("names", [("A_1", "a_1"), ("SLIDE/1", "slide/1")])
def test_pairs_that_are_one_on_some_disks_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    touch(tmp_path, *(f"train{part}/{name}.png" for part in "AB" for name in names), "valA/b.png", "valB/b.png")
    with pytest.raises(PairingError, match=r"are one name on disks that do not tell upper from lower case.*rename one"):
        find_pairs(PrepSettings(), Data(he=tmp_path, ihc=tmp_path))


def test_other_files_and_hidden_ones_are_ignored_and_listed(tmp_path: Path) -> None:
    touch(tmp_path, "HE/a.png", "IHC/a.png", "HE/.DS_Store", "HE/.a.png", "HE/notes.txt", "IHC/Thumbs.db")
    found = discover(tmp_path)
    assert ids(found) == ["a"]
    assert found.notes[0] == ("ignored 4 file(s) that are no tiles: 'HE/.DS_Store', 'HE/.a.png', 'HE/notes.txt', …")


def test_links_are_followed_and_a_loop_ends(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png", "data/IHC/deep/a.png")
    (tmp_path / "data" / "HE").mkdir()
    (tmp_path / "data" / "HE" / "deep").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "IHC" / "loop").symlink_to(tmp_path / "data" / "IHC")
    found = discover(tmp_path / "data")
    assert ids(found) == ["deep/a"]
    assert "IHC/loop (a link to a folder above)" in found.notes[0]


@pytest.mark.parametrize("twin", ["a.png", "a.JPG", "a.tiff"])
def test_two_files_of_one_name_are_refused(tmp_path: Path, twin: str) -> None:
    touch(tmp_path, "HE/x/a.jpg", "IHC/x/a.jpg", f"IHC/x/{twin}")
    message = refusal(tmp_path)
    assert "'IHC/x/a.jpg'" in message
    assert f"'IHC/x/{twin}'" in message
    assert message.endswith("have the same name without suffix; keep one of them")


def test_empty_and_missing_folders_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(
        f"{tmp_path}: no tiles in layout auto: it holds no folders and needs one of mist"
    )
    missing = tmp_path / "gone"
    assert refusal(missing) == (
        f"{missing}: no such folder; check the path of the tiles (--data, --he, --ihc; make: DATA=, HE=, IHC=)"
    )
    touch(tmp_path, "HE/a.png", "IHC/readme.txt")
    assert refusal(tmp_path).startswith(f"{tmp_path}: 'IHC' holds no pictures (.bmp, .jpeg, .jpg, ")
    assert "bci: HE/train" in refusal(tmp_path, Layout.BCI)


def test_pictures_of_a_kind_that_is_not_read_are_counted_by_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "HE/a.png", "IHC/a.webp", "IHC/b.WEBP", "IHC/c.jp2", "IHC/readme.txt")
    remedy = "which are not read here: convert them to PNG, for example with `vips copy` or QuPath"
    assert refusal(tmp_path) == f"{tmp_path}: 'IHC' holds 2 .webp and 1 .jp2 files, {remedy}"
    with pytest.raises(PairingError, match=r"holds 2 \.webp and 1 \.jp2 files"):
        discover_folders(tmp_path / "HE", tmp_path / "IHC")
    touch(tmp_path, "mist/trainA/a.jxl", "mist/trainB/a.png", "mist/valA/a.png", "mist/valB/a.png")
    assert f"no folder of H&E of train; add it, or take the other one away; it holds 1 .jxl files, {remedy}" in refusal(
        tmp_path / "mist"
    )


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (("trainA", "trainB", "valA"), "'valA' has no counterpart: there is no folder of IHC of val; add it, or take"),
        (("trainA", "valA", "valB"), "'trainA' has no counterpart: there is no folder of IHC of train; add it, or"),
        (("trainA", "valB"), "'trainA' has no counterpart: there is no folder of IHC of train; add it, or"),
        ((*MIST, "TrainA"), "'TrainA' and 'trainA' may both hold H&E of train; keep one of them there, or give a"),
        (("HE/train", "HE/test", "IHC/train"), "'HE/test' has no counterpart: there is no folder of IHC of test"),
        (("HE/train", "HE/test", "IHC"), "its folders do not match: 'HE/test', 'HE/train' for H&E and 'IHC' for IHC"),
        (
            ("HE/test", "IHC/test"),
            "there are test and no train ('HE/test', 'IHC/test'); add the tiles of train, or if the names mean no "
            "splits, read the folders of the stains whole: --set layout=folders (make: SET=layout=folders)",
        ),
        (
            ("HE", "Klon 4B5"),
            "has folders of H&E ('HE') and none whose name says IHC, such as IHC, HER2, B or label; if "
            "it is 'Klon 4B5', set its name: --set 'stain=Klon 4B5' (make: SET=\"'stain=Klon 4B5'\"); or name both",
        ),
        (("HER2", "ER"), "has folders of IHC ('ER', 'HER2') and none whose name says H&E, such as HE, A or input; or"),
    ],
)
def test_half_a_layout_is_refused(tmp_path: Path, folders: tuple[str, ...], told: str) -> None:
    touch(tmp_path, *(f"{folder}/a_0_0.png" for folder in folders))
    assert told in refusal(tmp_path)
