"""Which layout a listing has: a pure function, tried on trees as they come out of downloads, archives and hands."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

import pytest

from prep.settings import Layout, PrepSettings
from prep.tiles.discovery import Data, find_pairs
from prep.tiles.folders.recognise import Asked, NotRead, Reading, recognise
from prep.tiles.folders.tree import Folder, list_tree
from prep.tiles.folders.words import Role, read_word
from prep.tiles.layouts import find_data_set
from store.schema import PairingError, SettingsError, Split
from store.settings import load
from tests.support.tile_folders import discover, touch

PARTS = "HER2-001/TrainValAB/trainA HER2-002/TrainValAB/trainB HER2-001/TrainValAB/valA HER2-002/TrainValAB/valB"
STAMPED = PARTS.replace("-00", "-20240101T101010Z-00")


def listing(*folders: str, files: tuple[str, ...] = ("a.png",)) -> Folder:
    """A tree with files in each of these folders; made without a disk."""
    root: dict[str, object] = {}
    for folder in folders:
        place = root
        for part in PurePosixPath(folder).parts:
            place = place.setdefault(part, {})  # type: ignore[assignment] # a tree of dicts
        place.update(dict.fromkeys(files, ""))

    def build(name: str, path: str, tree: dict[str, object]) -> Folder:
        below = [
            build(key, key if path == "." else f"{path}/{key}", value)
            for key, value in sorted(tree.items())
            if isinstance(value, dict)
        ]
        names = tuple(key for key, value in tree.items() if value == "")
        return Folder(name=name, paths=(path,), folders=tuple(below), files=names)

    return build("data", ".", root)


def read(folders: str, **asked: str) -> Reading | NotRead:
    layout = Layout(asked.get("layout", "auto"))
    return recognise(listing(*folders.split()), Asked(layout=layout, stain=asked.get("stain", "")))


@pytest.mark.parametrize(
    ("folders", "layout", "splits"),
    [
        ("trainA trainB valA valB", "mist", "train test"),
        ("trainA trainB testA testB", "mist", "train test"),
        ("trainA trainB valA valB testA testB", "mist", "train val test"),
        ("train_A train_B test-A test-B", "mist", "train test"),
        ("HE_train IHC_train HE_test IHC_test", "mist", "train test"),
        ("MIST/HER2/TrainValAB/trainA MIST/HER2/TrainValAB/trainB", "mist", "train"),
        (PARTS, "mist", "train test"),
        (STAMPED, "mist", "train test"),
        ("HE/train HE/val HE/test IHC/train IHC/val IHC/test", "bci", "train val test"),
        ("HE_20x/train HE_20x/test IHC_20x/train IHC_20x/test", "bci", "train test"),
        ("H&E/TRAINING H&E/VALIDATION HER2/TRAINING HER2/VALIDATION", "bci", "train test"),
        ("train/HE train/IHC test/HE test/IHC", "split-first", "train test"),
        ("train/HE_tiles train/ihc_tiles valid/HE_tiles valid/ihc_tiles", "split-first", "train test"),
        ("HEMIT/train/input HEMIT/train/label HEMIT/val/input HEMIT/val/label", "split-first", "train test"),
        ("training/source training/target testing/source testing/target", "split-first", "train test"),
        ("a b", "folders", "train"),
        ("Dataset/he Dataset/ihc", "folders", "train"),
        ("x/y/z/HE x/y/z/IHC", "folders", "train"),
        ("H_E_512 PD-L1_512", "folders", "train"),
        ("HE IHC old/HE old/IHC", "folders", "train"),
        ("HE IHC label", "folders", "train"),
        ("HE IHC Ki67", "folders", "train"),
        ("HE/A HE/B IHC/A IHC/B", "folders", "train"),
        ("Images/HandE/ER Images/IHC/ER", "folders", "train"),
        ("train/trainA train/trainB test/testA test/testB", "mist", "train test"),
        ("he/images/train he/images/val ihc/images/train ihc/images/val", "bci", "train test"),
        ("HE/images IHC/images", "folders", "train"),
        ("HE/ER/train HE/ER/val IHC/ER/train IHC/ER/val", "bci", "train test"),
        ("ER/train/HE ER/train/IHC", "split-first", "train"),
        ("train test", "side-by-side", "train test"),
        ("datasets/BCI/train datasets/BCI/test", "side-by-side", "train test"),
        ("AB/train AB/val", "side-by-side", "train test"),
        (".", "side-by-side", "train"),
    ],
)
def test_trees_are_read(folders: str, layout: str, splits: str) -> None:
    found = read(folders)
    assert isinstance(found, Reading), found
    assert (found.layout, " ".join(side.split for side in found.sides)) == (layout, splits)
    again = recognise(listing(*reversed(folders.split())), Asked())
    assert again == found


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        ("HE HER2 ER", "folders of 'HE', 'HER2' with stain=HER2; choose one, for example --set stain=ER (make: SET"),
        ("train/HE train/ER train/PR", "can be read in 2 ways: split-first of 'train/HE', 'train/ER' with stain=ER; "),
        ("ER/trainA ER/trainB PR/trainA PR/trainB", "mist of 'PR/trainA', 'PR/trainB' with stain=PR; choose one"),
        ("A B HE IHC", "folders of 'A', 'B'; folders of 'HE', 'IHC'; name the folder around one of them (--data; m"),
        ("one/HE one/IHC two/HE two/IHC", "2 ways: folders of 'one/HE', 'one/IHC'; folders of 'two/HE', 'two/IHC'"),
        ("A/train B/train AB/train", "'AB/train' with layout=side-by-side; choose one, for example --set layout=bci"),
        ("train/A train/B val/A val/B valid/A valid/B", "'val/A' and 'valid/A' may both hold H&E of val; keep one"),
        ("HE HE_20x IHC", "'HE' and 'HE_20x' may both hold H&E; keep one of them there, or give a table of the pairs"),
    ],
)
def test_what_can_be_read_in_two_ways_is_not_guessed(folders: str, told: str) -> None:
    found = read(folders)
    assert isinstance(found, NotRead)
    assert told in found.reason


@pytest.mark.parametrize(
    ("folders", "asked", "taken"),
    [
        ("HE HER2 ER", {"stain": "er"}, "HE ER"),
        ("HE HER2 ER Mx", {"stain": "Mx"}, "HE Mx"),
        ("HE HER2 ER", {"stain": "HER2 (4B5)"}, "HE HER2"),
        ("HE HER2 ER", {"stain": "HER2/neu"}, "HE HER2"),
        ("HE PD-L1 ER", {"stain": "PDL1"}, "HE PD-L1"),
        ("HE IHC Ki67", {"stain": "Ki-67"}, "HE Ki67"),
        ("I/HandE/ER I/HandE/PR I/IHC/ER I/IHC/PR", {"stain": "PR"}, "I/HandE/PR I/IHC/PR"),
        ("ER/trainA ER/trainB PR/trainA PR/trainB", {"stain": "PR"}, "PR/trainA PR/trainB"),
        ("HE_ER IHC_ER HE_PR IHC_PR", {"stain": "ER"}, "HE_ER IHC_ER"),
        ("A/train B/train AB/train", {"layout": "side-by-side"}, "AB/train"),
    ],
)
def test_the_stain_or_the_layout_chooses(folders: str, asked: dict[str, str], taken: str) -> None:
    found = read(folders, **asked)
    assert isinstance(found, Reading), found
    assert found.folders == taken


@pytest.mark.parametrize(
    ("folders", "chosen"),
    [
        ("A B C", "A B"),
        ("train/A train/B train/C", "train/A train/B"),
        ("set/A/HE set/A/IHC set/B/HE set/B/IHC set/C/HE set/C/IHC", "set/A set/B"),
        ("a b c d", "a b"),
    ],
)
def test_folders_that_count_in_letters_are_not_taken_for_stains(folders: str, chosen: str) -> None:
    found = read(folders)
    assert isinstance(found, NotRead)
    told = re.search(" may be slides, or A the H&E and B the IHC: for stains say --set layout=([a-z-]+) ", found.reason)
    assert told
    taken = read(folders, layout=told[1])
    assert isinstance(taken, Reading)
    assert taken.folders == chosen


@pytest.mark.parametrize("folders", ["HE/A HE/B HE/C IHC/A IHC/B IHC/C", "A B docs", "A/C A/D A/E B/C B/D B/E"])
def test_letters_below_stains_are_slides_and_a_and_b_alone_stains(folders: str) -> None:
    assert isinstance(read(folders), Reading)


def test_many_ways_are_counted_and_some_of_them_told() -> None:
    found = read(" ".join(f"case{n}/{stain}" for n in range(200) for stain in ("HE", "IHC")))
    assert isinstance(found, NotRead)
    assert found.reason.startswith("can be read in 200 ways: folders of 'case0/HE', 'case0/IHC'; ")
    assert "; and 192 more; name the folder around" in found.reason


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        ("train/s1/HE train/s1/IHC test/s2/HE test/s2/IHC", "'test/s2/HE'"),
        ("train/s1/A train/s1/B", "'train/s1/A'"),
        ("set/train/s1/HER2 set/train/s1/H&E set/val/s2/HER2 set/val/s2/H&E", "'set/train/s1/H&E'"),
    ],
)
def test_folders_of_stains_in_those_of_slides_are_no_side_by_side_pictures(folders: str, told: str) -> None:
    found = read(folders)
    assert isinstance(found, NotRead)
    assert f"{told} is a folder of a stain in one that says nothing: lay it out as " in found.reason
    assert isinstance(read(folders, layout=Layout.SIDE_BY_SIDE), Reading)


def test_a_stain_that_the_folders_are_not_of_is_refused() -> None:
    found = read("HE HER2", stain="ER")
    assert found == NotRead(
        reason="stain = ER, but its folders are of HER2; correct one of them, for example --set stain=HER2 (make: "
        "SET=stain=HER2)"
    )
    assert isinstance(read("HE HER2", stain="membrane stain"), Reading)
    assert isinstance(read("HE HER2", stain="ER of clone 6F11"), NotRead)


def test_pictures_that_are_left_aside_are_named_where_a_test_set_is_missed(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{split}/{stain}/s1_0_0.png" for split in ("train", "eval") for stain in ("HE", "IHC")))
    with pytest.raises(
        PairingError, match=r"has no test set .*; left aside 2 picture\(s\) in other folders: 'eval/HE/s1"
    ):
        find_pairs(PrepSettings(), Data(he=tmp_path, ihc=tmp_path))


def test_folders_beside_those_of_the_h_and_e_may_be_the_ihc(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{split}/{stain}/s1_0_0.png" for split in ("train", "test") for stain in ("HE", "Mx clone")))
    with pytest.raises(PairingError, match=r"if it is 'Mx clone', set its name: --set 'stain=Mx clone' \(make: SET="):
        discover(tmp_path)
    found = find_pairs(load(PrepSettings, None, ["stain=Mx clone"]), Data(he=tmp_path, ihc=tmp_path))
    assert [c.ihc for c in found.candidates] == ["train/Mx clone/s1_0_0.png", "test/Mx clone/s1_0_0.png"]


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (
            "HER2-001/TrainValAB/trainA HER2-003/TrainValAB/trainA",
            "MIST HER2 has 4642 + 1000 pairs, here are 2 H&E and 0 IHC tile(s); part(s) 1, 3 of a download are here; "
            "part(s) 2 are missing: unpack every part beside the others",
        ),
        ("HER2/trainA HER2-002/TrainValAB/valA", "part(s) 2 of a download are here; part(s) 1 are missing"),
        ("HER2-002/TrainValAB/trainB", "part(s) 2 of a download are here; part(s) 1 are missing: unpack every part"),
        ("mine-001/trainA", "; part(s) 1 of a download are here: unpack every part beside the others"),
    ],
)
def test_parts_of_a_download_that_are_missing_are_named(folders: str, told: str) -> None:
    trees = [listing(folder, files=(f"{n}.png",)).folders[0] for n, folder in enumerate(folders.split())]
    found = recognise(Folder(name="data", paths=(".",), folders=tuple(trees)), Asked())
    assert isinstance(found, NotRead)
    assert told in found.reason


def test_parts_that_hold_the_same_picture_are_two_sets() -> None:
    found = read("slide-001/HE slide-001/IHC slide-002/HE slide-002/IHC")
    assert isinstance(found, NotRead)
    assert "can be read in 2 ways" in found.reason


def test_parts_are_merged_tile_by_tile(tmp_path: Path) -> None:
    touch(tmp_path, "ER-001/TrainValAB/trainA/a_0_0.png", "ER-002/TrainValAB/trainA/b_0_0.png")
    touch(tmp_path, *(f"ER-002/TrainValAB/trainB/{name}_0_0.png" for name in "ab"))
    touch(tmp_path, "ER-003/TrainValAB/valA/c_0_0.png", "ER-003/TrainValAB/valB/c_0_0.png")
    found = discover(tmp_path)
    assert [(c.split, c.id, c.he) for c in found.candidates] == [
        ("train", "a_0_0", "ER-001/TrainValAB/trainA/a_0_0.png"),
        ("train", "b_0_0", "ER-002/TrainValAB/trainA/b_0_0.png"),
        ("test", "c_0_0", "ER-003/TrainValAB/valA/c_0_0.png"),
    ]
    assert found.read_as.startswith(
        "MIST, 2 train + 1 test pairs, in ER-001/TrainValAB/trainA ER-002/TrainValAB/trainA"
    )
    assert found.notes == (
        "MIST ER has 4153 + 1000 pairs, here are 2 + 1; part(s) 1, 2, 3 of a download are here: unpack every part "
        "beside the others",
    )


@pytest.mark.parametrize(
    ("name", "role", "marker", "split"),
    [
        ("HE", Role.HE, "", None), ("h&e tiles", Role.HE, "", None), ("TestB", Role.IHC, "", Split.TEST),
        ("Ki-67", None, "ki67", None), ("IHC_HER2", Role.IHC, "her2", None), ("Validation", None, "", Split.VAL),
        ("images", None, "", None), ("TrainValAB", None, "", None), ("CD-163", None, "cd163", None),
        ("source_A", Role.HE, "", None), ("imagesB", Role.IHC, "", None), ("HE_cropped_512", Role.HE, "", None),
        ("Hematoxylin and Eosin", Role.HE, "", None), ("IHC v2", Role.IHC, "", None), ("CK-7", None, "ck7", None),
    ],
)  # fmt: skip
def test_words(name: str, role: Role | None, marker: str, split: Split | None) -> None:
    word = read_word(name)
    assert word is not None
    assert (word.role, word.marker, word.split) == (role, marker, split)


@pytest.mark.parametrize("name", ["slide7", "HER2match", "A_1", "test_old", "HE backup", "trainer", "BCI_dataset"])
def test_names_that_say_nothing(name: str) -> None:
    assert read_word(name) is None


def test_what_lies_between_tiles_is_ignored_by_rule_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "HE/a_0_0.png", "IHC/a_0_0.png", "README.md", "labels.csv", "demo.zarr/zarr.json")
    touch(tmp_path, "HE/README", "HE/Thumbs.db", "HE/._a_0_0.png", "HE/.ipynb_checkpoints/a_0_0.png", "HE/a.xml")
    touch(tmp_path, "IHC/masks/a_0_0.png", "IHC/a_0_0_mask.png", "__MACOSX/HE/._a.png", "demo.zarr/train/x1/he/c.png")
    touch(tmp_path, "thumbs/HE/a_0_0.png", "old/HE/b_0_0.png")
    found = discover(tmp_path)
    assert [c.id for c in found.candidates] == ["a_0_0"]
    assert found.unpaired == ()
    assert found.notes == (
        "ignored 7 file(s) that are no tiles: 'HE/._a_0_0.png', 'HE/.ipynb_checkpoints', 'HE/README', …",
        "left aside 1 picture(s) in other folders: 'old/HE/b_0_0.png'",
    )


def test_links_to_folders_are_read_and_links_to_nothing_named(tmp_path: Path) -> None:
    touch(tmp_path, "real/one/a_0_0.png", "real/two/a_0_0.png", "data/x/readme")
    (tmp_path / "data" / "HE").symlink_to(tmp_path / "real" / "one")
    (tmp_path / "data" / "IHC").symlink_to(tmp_path / "gone")
    with pytest.raises(PairingError, match="'IHC' is a link to nothing: correct it"):
        discover(tmp_path / "data")
    (tmp_path / "data" / "IHC").unlink()
    (tmp_path / "data" / "IHC").symlink_to("../real/two")
    (tmp_path / "real" / "two" / "b_0_0.png").symlink_to("gone.png")
    found = discover(tmp_path / "data")
    assert [c.he for c in found.candidates] == ["HE/a_0_0.png"]
    assert [bad.ihc for bad in found.unpaired] == ["IHC/b_0_0.png"]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("gone", "no such folder; check the path of the tiles (--data, --he, --ihc; make: DATA=, HE=, IHC=)"),
        ("link", "is a link, and what it points to does not exist; correct the link or name another folder"),
        ("HER2.zip", "is an archive; unpack it and name the folder"),
        ("pairs.csv", "is a table, not a folder; give it with --pairs-from "),
        ("a.png", "is a file; name a folder that can be read"),
        ("s.zarr", "is a Zarr store, not a folder of tiles; name the folder of the tiles that it was built from"),
    ],
)
def test_what_is_no_folder_of_tiles_is_said(tmp_path: Path, kind: str, told: str) -> None:
    path = tmp_path / kind
    if kind == "link":
        path.symlink_to("nowhere")
    elif kind == "s.zarr":
        touch(path, "zarr.json", "train/x1/he/zarr.json")
    elif kind != "gone":
        path.touch()
    for data in (Data(he=path, ihc=path), Data(he=path, ihc=tmp_path)):
        with pytest.raises(PairingError) as caught:
            find_pairs(PrepSettings(), data)
        assert str(caught.value).startswith(f"{path}: {told}")


def test_an_archive_beside_nothing_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "HER2.zip")
    with pytest.raises(PairingError, match=r"'HER2\.zip' is an archive: unpack it"):
        find_data_set(tmp_path)


def test_a_published_val_set_excludes_one_that_is_held_out(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{s}/{f}/s{n}_0_0.png" for s in ("train", "val", "test") for f in "AB" for n in range(4)))
    settings = load(PrepSettings, None, ["val_fraction=0.2"])
    with pytest.raises(SettingsError, match=r"has val pairs of its own; leave these settings away, or draw all splits"):
        find_pairs(settings, Data(he=tmp_path, ihc=tmp_path))


def test_a_folder_that_cannot_be_listed_stops_only_what_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "HE/a_0_0.png", "IHC/a_0_0.png", "locked/x")
    locked = {"locked"}

    def refuse(folder: Path) -> object:
        if Path(folder).name in locked:
            raise PermissionError(13, "Permission denied")
        return os.scandir(folder)

    monkeypatch.setattr("prep.tiles.folders.tree.scandir", refuse)
    assert [c.id for c in discover(tmp_path).candidates] == ["a_0_0"]
    locked.add("IHC")
    with pytest.raises(PairingError, match=r"'IHC' cannot be listed \(Permission denied\); give the right to read it"):
        discover(tmp_path)


def test_a_listing_says_what_lies_where(tmp_path: Path) -> None:
    touch(tmp_path, "HE/x/a.png", "HE/b.png")
    (he,) = list_tree(tmp_path).folders
    assert (he.paths, he.pictures, [folder.paths for folder in he.below()]) == (("HE",), 2, [("HE",), ("HE/x",)])


def test_two_folders_that_hold_splits_are_told_the_folder_around_them(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{stain}/{split}/s1_0_0.png" for stain in ("HE_20x", "ER", "x") for split in ("train", "test")))
    with pytest.raises(PairingError) as caught:
        find_pairs(PrepSettings(), Data(he=tmp_path / "HE_20x", ihc=tmp_path / "ER"))
    told = f"; both folders hold folders of splits: to read these, give --data {tmp_path}"
    assert str(caught.value).endswith(told)
    assert [c.split for c in discover(tmp_path).candidates] == ["train", "test"]
    with pytest.raises(PairingError) as caught:
        find_pairs(PrepSettings(), Data(he=tmp_path / "HE_20x", ihc=tmp_path / "x"))
    assert "folders of splits" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "told"), [("auto", False), ("folders", False), ("mist", True), ("side-by-side", True)]
)
def test_a_layout_beside_two_folders_is_said_not_to_be_read(tmp_path: Path, layout: str, told: bool) -> None:
    touch(tmp_path, "a/s1_0_0.png", "b/s1_0_0.png")
    settings = load(PrepSettings, None, [f"layout={layout}", "split=by-slide", "test_fraction=0"])
    notes = find_pairs(settings, Data(he=tmp_path / "a", ihc=tmp_path / "b")).notes
    assert (f"layout = {layout} is not read where two folders are named" in notes) is told


def test_layout_folders_takes_folders_of_splits_for_tiles(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{stain}/{split}/s1_0_0.png" for stain in ("HE", "IHC") for split in ("train", "test")))
    assert [c.id for c in discover(tmp_path, Layout.FOLDERS).candidates] == ["test/s1_0_0", "train/s1_0_0"]


def test_a_folder_whose_name_is_no_text_is_refused_before_pictures_are_read(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    touch(folder, "HE/a_0_0.png", "IHC/a_0_0.png")
    with pytest.raises(PairingError, match=r"the name of the folder 'caf\\udce9/HE' holds .*; rename the folder"):
        discover(tmp_path)


@pytest.mark.parametrize("layout", Layout)
def test_every_layout_says_what_it_needs(tmp_path: Path, layout: Layout) -> None:
    touch(tmp_path, "slides/a.png")
    with pytest.raises(PairingError, match=f"no tiles in layout {layout}: it holds 'slides' and needs one of [a-z]"):
        discover(tmp_path, layout)
