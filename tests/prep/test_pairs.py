"""Layouts, pairs by name, and the strict look at every pair before anything is built."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from prep.settings import Layout, Recipe
from prep.tiles.checking import Checked, check_pairs, read_pair, refuse_bad
from prep.tiles.pairs import Discovery, discover, discover_folders, hold_out_val, resplit
from prep.views import Geometry, plan_views
from store.images import write_png
from store.schema import PairingError, SchemaError, SettingsError, Split
from tests.support.places import SHARED

MIST = ("trainA", "trainB", "valA", "valB")
ODD_NAMES = ("sp ace", 'quo\'te "x"', "Größe µm 漢字", "up..down", "a.b.c", "-dash", "100%", "back\\slash", "[x]*?")


def touch(folder: Path, *names: str) -> None:
    """Empty files: pairing reads names only."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def ids(discovery: Discovery, split: Split = Split.TRAIN) -> list[str]:
    return [candidate.id for candidate in discovery.candidates if candidate.split is split]


def refusal(data: Path, layout: Layout = Layout.AUTO) -> str:
    with pytest.raises(PairingError) as caught:
        discover(data, layout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tile(seed: int, side: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def write_pair(data: Path, name: str, seed: int, side: int = 32) -> None:
    write_png(data / "HE" / f"{name}.png", tile(seed, side))
    write_png(data / "IHC" / f"{name}.png", tile(seed + 1000, side))


def check(discovery: Discovery, threads: int = 2) -> Checked:
    return check_pairs(discovery, lambda side: None, threads=threads)


def reasons(data: Path) -> dict[str, str]:
    return {bad.id: bad.reason for bad in check(discover(data)).table.skipped}


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
    assert f"did you mean {str(tmp_path / 'HER2')!r}?" in refusal(tmp_path)


def test_bci_numbers_are_no_slides_and_say_so(tmp_path: Path) -> None:
    for split, names in (("train", ["00000_train_1+", "00001_train_3+"]), ("test", ["00000_test_0"])):
        touch(tmp_path, *(f"{stain}/{split}/{name}.png" for stain in ("HE", "IHC") for name in names))
    found = discover(tmp_path)
    assert (found.layout, found.published) == (Layout.BCI, True)
    assert [(c.split, c.id, c.slide, c.ihc) for c in found.candidates] == [
        ("train", "00000_train_1+", "train/00000_train_1+", "IHC/train/00000_train_1+.png"),
        ("train", "00001_train_3+", "train/00001_train_3+", "IHC/train/00001_train_3+.png"),
        ("test", "00000_test_0", "test/00000_test_0", "IHC/test/00000_test_0.png"),
    ]
    assert "slides are unknown" in found.notes[0]
    assert "set slide_pattern" in found.notes[0]
    by_score = discover(tmp_path, slide_pattern=r"_(\d\+?)$")
    assert [c.slide for c in by_score.candidates] == ["1+", "3+", "0"]
    touch(tmp_path / "own", *(f"{s}/{n}.png" for s in ("HE", "IHC") for n in ("train/s1_0_2", "test/s2_0_0")))
    assert [c.slide for c in discover(tmp_path / "own").candidates] == ["s1", "s2"]


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


def test_nested_folders_pair_by_their_path(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{stain}/{name}" for stain in ("HE", "IHC") for name in ("c1/t/a.png", "c2/t/a.png", "a.png")))
    found = discover(tmp_path)
    assert ids(found) == ["a", "c1/t/a", "c2/t/a"]
    assert [c.slide for c in discover(tmp_path, slide_pattern="^[^/]+").candidates] == ["a", "c1", "c2"]


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


def test_other_files_and_hidden_ones_are_left_alone_and_told(tmp_path: Path) -> None:
    touch(tmp_path, "HE/a.png", "IHC/a.png", "HE/.DS_Store", "HE/.a.png", "HE/notes.txt", "IHC/Thumbs.db")
    found = discover(tmp_path)
    assert ids(found) == ["a"]
    assert found.notes[0] == ("ignored 4 file(s) that are no pictures: 'HE/.DS_Store', 'HE/.a.png', 'HE/notes.txt', …")


def test_links_are_followed_and_a_loop_ends(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png", "data/IHC/deep/a.png")
    (tmp_path / "data" / "HE").mkdir()
    (tmp_path / "data" / "HE" / "deep").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "IHC" / "loop").symlink_to(tmp_path / "data" / "IHC")
    found = discover(tmp_path / "data")
    assert ids(found) == ["deep/a"]
    assert "IHC/loop (a link to a folder above)" in found.notes[0]


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
        refuse_bad(found.unpaired)
    assert str(caught.value) == (
        "3 bad pair(s): 1 H&E without IHC: 'trainA/s_1_0.jpg'; 2 IHC without H&E: 'trainB/s_3_0.jpg', "
        "'valB/s_2_0.jpg'; mend them, or leave them out with --skip-bad"
    )
    refuse_bad(())


@pytest.mark.parametrize("twin", ["a.png", "a.JPG", "a.tiff"])
def test_two_files_of_one_name_are_refused(tmp_path: Path, twin: str) -> None:
    touch(tmp_path, "HE/x/a.jpg", "IHC/x/a.jpg", f"IHC/x/{twin}")
    message = refusal(tmp_path)
    assert "'IHC/x/a.jpg'" in message
    assert f"'IHC/x/{twin}'" in message
    assert message.endswith("have one name, suffix apart; keep one of them")


def test_empty_and_missing_folders_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(
        f"{tmp_path}: no tiles in layout auto: it holds no folders and needs one of mist"
    )
    assert refusal(tmp_path / "gone") == f"{tmp_path / 'gone'}: no such folder; check the path"
    touch(tmp_path, "HE/a.png", "IHC/readme.txt")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'IHC'}: holds no pictures (.bmp, .jpeg, .jpg, ")
    assert refusal(tmp_path / "HE" / "a.png").endswith("name a folder that can be read")
    assert "bci: HE/train" in refusal(tmp_path, Layout.BCI)


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (("trainA", "trainB", "valA"), "has no folder 'valB', but its counterpart is there"),
        (("trainA", "valA", "valB"), "has no folder 'trainB', but its counterpart is there"),
        ((*MIST, "testA", "testB"), "has val and test, and either is the published test set; keep one of them"),
        ((*MIST, "TrainA"), "'TrainA' and 'trainA' differ in case only; rename one of them"),
        (("HE/train", "HE/test", "IHC/train"), "has no folder 'test', but its counterpart is there"),
    ],
)
def test_half_a_layout_is_refused(tmp_path: Path, folders: tuple[str, ...], told: str) -> None:
    touch(tmp_path, *(f"{folder}/a_0_0.png" for folder in folders))
    assert told in refusal(tmp_path)


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


def test_a_pattern_that_finds_no_slide_stops_with_the_tile(tmp_path: Path) -> None:
    touch(tmp_path, "HE/a_1.png", "IHC/a_1.png", "HE/odd.png", "IHC/odd.png")
    with pytest.raises(PairingError, match=r"tile 'odd': slide_pattern .* finds no slide in it"):
        discover(tmp_path, slide_pattern=r"^(.+)_\d")
    with pytest.raises(SettingsError, match="is no regular expression"):
        discover(tmp_path, slide_pattern="(")


def test_sound_pairs_come_with_their_digests_and_conversions_are_counted(tmp_path: Path) -> None:
    for n in range(6):
        write_pair(tmp_path, f"t{n}", n)
    grey = Image.fromarray(tile(7)[..., 0])
    grey.save(tmp_path / "HE" / "t4.png")
    grey.save(tmp_path / "HE" / "t5.png")
    found, ticks = discover(tmp_path), []
    checked = check_pairs(found, lambda side: ticks.append(side), threads=3, tick=lambda: ticks.append(-1))
    assert ticks == [-1] * 6 + [32]
    assert [pair.id for pair in checked.table.pairs[Split.TRAIN]] == [f"t{n}" for n in range(6)]
    assert checked.notes == ("2 picture(s) grey to RGB, for example 'HE/t4.png'",)
    assert checked == check(found, threads=1)
    he, ihc = read_pair(found.sources, checked.table.pairs[Split.TRAIN][2])
    np.testing.assert_array_equal(he, tile(2))
    np.testing.assert_array_equal(ihc, tile(1002))


def test_each_bad_pair_is_named_with_its_reason_and_the_good_ones_stay(tmp_path: Path) -> None:
    for n in range(4):
        write_pair(tmp_path, f"good{n}", n)
    write_pair(tmp_path, "differ", 10)
    write_png(tmp_path / "IHC" / "differ.png", tile(1, 16))
    write_pair(tmp_path, "small", 11, side=16)
    for name in ("oblong", "broken", "empty", "text", "deep", "cmyk", "clear"):
        write_pair(tmp_path, name, 12)
    for stain in ("HE", "IHC"):
        write_png(tmp_path / stain / "oblong.png", tile(1)[:24])
    whole = (tmp_path / "HE" / "broken.png").read_bytes()
    (tmp_path / "HE" / "broken.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "IHC" / "empty.png").write_bytes(b"")
    (tmp_path / "HE" / "text.png").write_text("no picture")
    Image.fromarray(tile(1)[..., 0].astype(np.uint16) * 256).save(tmp_path / "IHC" / "deep.png")
    Image.new("CMYK", (32, 32)).save(tmp_path / "HE" / "cmyk.png", "TIFF")
    Image.new("RGBA", (32, 32), (9, 9, 9, 100)).save(tmp_path / "IHC" / "clear.png")
    found = check(discover(tmp_path))
    told = {bad.id: bad.reason for bad in found.table.skipped}
    assert told == {
        "differ": "H&E is 32 x 32 px, IHC is 16 x 16 px; the two must show one field: cut them alike",
        "small": "is 16 px, most tiles are 32 px, and a store holds one size; cut it again",
        "oblong": "is 32 x 24 px, and a tile must be square; cut it again",
        "broken": f"HE/broken.png: truncated PNG, it ends after {len(whole) // 2:,} bytes; fetch or export it again",
        "empty": "IHC/empty.png: the file is empty (0 bytes); fetch or export it again",
        "text": "HE/text.png: is not a picture: it begins with b'no pictu'; give a JPEG, PNG, TIFF or BMP file, "
        "or remove it",
        "deep": "IHC/deep.png: has 16 bits per channel, a store keeps 8; scale it to 8-bit RGB first",
        "cmyk": "HE/cmyk.png: is CMYK, for printing; convert it to 8-bit RGB with its colour profile first",
        "clear": "IHC/clear.png: has transparent pixels over an unknown background; flatten it onto white",
    }
    assert (found.tile_side, len(found.table.pairs[Split.TRAIN])) == (32, 4)
    with pytest.raises(
        PairingError, match=r"^9 bad pair\(s\): 9 not usable: 'broken' \(HE/broken.png: trunc.* and 4 more"
    ):
        refuse_bad(found.table.skipped)


def test_the_larger_side_is_kept_of_two_that_are_equally_frequent(tmp_path: Path) -> None:
    for n in range(2):
        write_pair(tmp_path, f"small{n}", n, side=16)
        write_pair(tmp_path, f"large{n}", n, side=32)
    assert check(discover(tmp_path)).tile_side == 32
    assert set(reasons(tmp_path)) == {"small0", "small1"}


def test_tiles_that_the_recipe_cannot_use_are_refused_by_name(tmp_path: Path) -> None:
    write_pair(tmp_path, "only", 0)

    def plan(side: int) -> list[Geometry]:
        return [Geometry(view=view, tile_side=side, view_side=512, margin=16) for view in plan_views(Recipe.PAPER, 1)]

    with pytest.raises(SchemaError) as caught:
        check_pairs(discover(tmp_path), plan, threads=1)
    assert str(caught.value) == (
        "HE/only.png: tile side 32 px is smaller than view_side 512 px, and the field is only ever downsampled; "
        "set view_side to 32 or less"
    )


def test_nothing_left_in_train_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    touch(tmp_path, "HE/a.png", "IHC/a.png")
    with pytest.raises(
        PairingError, match=r"no pair is left in train: 1 bad pair\(s\): .*'a' \(HE/a\.png: the file is empty"
    ):
        check(discover(tmp_path))


def test_side_by_side_pictures_are_halved_and_others_refused(tmp_path: Path) -> None:
    for n in range(2):
        write_png(tmp_path / f"t{n}.png", np.hstack([tile(n), tile(n + 1000)]))
    write_png(tmp_path / "square.png", tile(5))
    found = discover(tmp_path)
    checked = check(found)
    assert [bad.reason for bad in checked.table.skipped] == [
        "is 32 x 32 px, and a side-by-side picture must be twice as wide as high; "
        "cut it again, or choose another layout"
    ]
    pair = checked.table.pairs[Split.TRAIN][1]
    assert (pair.he, pair.he_digest) == (pair.ihc, pair.ihc_digest)
    he, ihc = read_pair(found.sources, pair)
    np.testing.assert_array_equal(he, tile(1))
    np.testing.assert_array_equal(ihc, tile(1001))


def test_a_file_that_changed_after_the_check_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 0)
    found = discover(tmp_path)
    pair = check(found).table.pairs[Split.TRAIN][0]
    write_png(tmp_path / "IHC" / "a.png", tile(77))
    with pytest.raises(PairingError, match=r"IHC/a\.png: changed while the store was built: sha256 was .*new store"):
        read_pair(found.sources, pair)


def test_names_do_not_depend_on_where_the_data_stand(tmp_path: Path) -> None:
    tables = []
    for place in ("here", "there/deep"):
        write_pair(tmp_path / place, "x/a", 0)
        touch(tmp_path / place, "HE/bad.png", "IHC/bad.png")
        tables.append(check(discover(tmp_path / place)).table)
    assert tables[0] == tables[1]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real picture pairs are not beside the checkout")
def test_the_real_pairs_are_found_whole_and_tissue_blocks_stay_together() -> None:
    found = discover(SHARED / "data" / "derived-pairs256", slide_pattern="^(lesion|ratkidney|restained)")
    checked = check(found)
    assert (len(found.candidates), checked.tile_side, checked.table.skipped, checked.notes) == (40, 256, (), ())
    drawn = resplit(found, seed=0, val_fraction=0, test_fraction=0.2)
    sides = {slide: {c.split for c in drawn.candidates if c.slide == slide} for slide in ("lesion", "ratkidney")}
    assert all(len(splits) == 1 for splits in sides.values())
    assert sides["lesion"] == {Split.TRAIN}  # 28 of 40 are more than a fifth
