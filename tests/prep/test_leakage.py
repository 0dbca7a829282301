"""The same picture in two splits: found by its pixels, refused, or allowed by name and then recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from prep.__main__ import app
from prep.build.describe import describe_plan
from prep.build.plan import make_plan
from prep.settings import PrepSettings, SplitRule, recorded
from prep.tiles.discovery import find_pairs
from prep.tiles.leakage import Leak, Print, count_leaks, find_leaks, fingerprint
from store.images import PictureU8, read_picture
from store.overview import describe, describe_leakage
from store.reader import Store
from store.schema import PairingError, Split, Stain
from store.settings import validate
from tests.support.command_line import CommandLine
from tests.support.places import SHARED
from tests.support.stores import draw_tile
from tests.support.tile_folders import touch
from tests.support.tiles import lanczos, run, single

WORDS = ("--set", "upscaler=lanczos", "--set", "view_side=64", "--set", "unit=2", "--set", "margin=4")


@pytest.fixture
def prep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine("prep", app, monkeypatch, capsys)


def save_as(suffix: str, **options: object) -> Callable[[PictureU8, Path], None]:
    """Save a picture beside its PNG, which is removed."""

    def save(picture: PictureU8, png: Path) -> None:
        png.unlink()
        Image.fromarray(picture).save(png.with_suffix(suffix), **options)  # type: ignore[arg-type] # of Pillow

    return save


def brighter(picture: PictureU8) -> PictureU8:
    return np.clip(picture, 0, 254) + np.uint8(1)


SAVED: dict[str, Callable[[PictureU8, Path], None]] = {
    "the same file": save_as(".png"),
    "other compression": save_as(".png", compress_level=0),
    "another format": save_as(".tif"),
    "bitmap": save_as(".bmp"),
    "jpeg 90": save_as(".jpg", quality=90),
    "jpeg 60, half the colours": save_as(".jpg", quality=60, subsampling=2),
    "one grey level brighter": lambda picture, png: save_as(".png")(brighter(picture), png),
}


@pytest.mark.parametrize("how", SAVED)
@pytest.mark.parametrize(("stain", "letter"), [("H&E", "A"), ("IHC", "B")])
def test_a_picture_of_train_in_test_is_refused_however_it_was_saved(
    mist: Path, tmp_path: Path, prep: CommandLine, how: str, stain: str, letter: str
) -> None:
    """The plan is printed first; a build writes nothing."""
    SAVED[how](read_picture(mist / f"train{letter}" / "s1_1_0.png"), mist / f"val{letter}" / "s3_2_0.png")
    plan = prep("plan", "--data", str(mist), *WORDS)
    said = f"1 of 3 {stain} tiles of test are also in train (leakage), for example 'val{letter}/s3_2_0."
    assert (plan.code, said in plan.err, "' is 'train" + letter + "/s1_1_0.png'" in plan.err) == (2, True, True)
    assert "--set allow_leakage=true (make: SET=allow_leakage=true)" in plan.err
    assert said.split(",")[0] in " ".join(plan.out.split())
    store = tmp_path / "s.zarr"
    for dry in ((), ("--dry-run",)):
        done = prep("build", "--data", str(mist), "--store", str(store), *WORDS, *dry)
        assert (done.code, said in done.err, store.exists()) == (2, True, False)


def test_allowed_leakage_is_recorded_and_no_other_store_changes(mist: Path, tmp_path: Path, prep: CommandLine) -> None:
    run(lanczos(), mist, tmp_path / "clean.zarr")
    root = json.loads((tmp_path / "clean.zarr" / "zarr.json").read_text())["attributes"]["manifest"]
    assert "leakage" not in root
    assert "allow_leakage" not in root["settings"]
    assert describe_leakage(Store.open(tmp_path / "clean.zarr"), Split.TEST) == []
    SAVED["jpeg 90"](read_picture(mist / "trainA" / "s1_1_0.png"), mist / "valA" / "s3_2_0.png")
    store = tmp_path / "leaky.zarr"
    done = prep("build", "--data", str(mist), "--store", str(store), *WORDS, "--set", "allow_leakage=true")
    assert done.code == 0, done.err
    opened = Store.open(store)
    assert opened.manifest.leakage == {Split.TEST: {Stain.HE: 1}}
    said = "1 of 3 H&E tiles of test are also in another split (leakage): its scores are optimistic"
    assert describe_leakage(opened, Split.TEST) == [said]
    assert describe_leakage(opened, Split.TRAIN) == []
    assert said in " ".join(describe(opened).split())
    assert validate(PrepSettings, opened.manifest.settings).allow_leakage
    again = prep("build", "--data", str(mist), "--store", str(store), *WORDS, "--set", "allow_leakage=true")
    assert (again.code, "already exists, finished" in again.err) == (0, True)
    other = prep("build", "--data", str(mist), "--store", str(store), *WORDS)
    assert (other.code, "allow_leakage: true -> null" in other.err) == (2, True)


def test_settings_are_recorded_without_leakage_unless_it_is_allowed() -> None:
    assert "allow_leakage" not in recorded(PrepSettings())
    assert recorded(PrepSettings(allow_leakage=True))["allow_leakage"] is True
    assert validate(PrepSettings, recorded(PrepSettings(batch=4))) == PrepSettings(batch=4)


def test_one_he_picture_beside_four_stains_is_refused_by_slide(tmp_path: Path) -> None:
    """Names tell four slides apart, and the pictures are side by side in one file: no two files are alike."""
    (tmp_path / "d").mkdir()
    for place in range(2):
        he = draw_tile(64, 1, place)
        for number, stain in enumerate(("er", "pr", "ki67", "her2")):
            both = np.hstack([he, draw_tile(64, 2, place, number)])
            assert cv2.imwrite(str(tmp_path / "d" / f"{stain}_{place}_0.png"), both[..., ::-1])
    apart = lanczos(split=SplitRule.BY_SLIDE, view_side=32, test_fraction=0.25, val_fraction=0.34)
    plan = make_plan(apart, single(tmp_path / "d"), threads=1)
    assert count_leaks(plan.leaks) == {Split.VAL: {Stain.HE: 2}, Split.TEST: {Stain.HE: 2}}
    assert "none of 4 slides occurs in more than one split" in describe_plan(plan)
    with pytest.raises(
        PairingError, match=r"2 of 2 H&E tiles of val are also in train .*; 2 of 2 H&E tiles of test are"
    ):
        plan.refuse(skip_bad=False)


def leaks_of(train: PictureU8, test: PictureU8) -> list[Leak]:
    return find_leaks(
        {split: [Print(name=split, of=fingerprint(u8))] for split, u8 in ((Split.TRAIN, train), (Split.TEST, test))},
        Stain.HE,
    )


def test_glass_is_no_leakage_unless_it_is_the_same_picture() -> None:
    """Bare glass looks alike everywhere; with the same noise it is the same picture."""
    rng = np.random.default_rng(0)
    one, two = (240 + rng.integers(-3, 4, (64, 64, 3))).astype(np.uint8), np.full((64, 64, 3), 255, np.uint8)
    other = (240 + rng.integers(-3, 4, (64, 64, 3))).astype(np.uint8)
    assert leaks_of(one, other) == leaks_of(two, two) == leaks_of(one, two) == []
    assert len(leaks_of(one, one)) == 1


def test_a_neighbour_or_a_shifted_tile_is_another_picture() -> None:
    wide = draw_tile(256, 5)
    assert leaks_of(wide[:128, :128].copy(), wide[:128, 128:].copy()) == []
    assert leaks_of(wide[:128, :128].copy(), wide[64:192, 64:192].copy()) == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real pictures")
def test_of_real_tiles_only_the_same_he_is_found() -> None:
    """40 pairs, one lesion's H&E with four stains: every pair of tiles is either the same pixels or not near."""
    for stain, folder in ((Stain.HE, "HE"), (Stain.IHC, "IHC")):
        tiles = {file.name: read_picture(file) for file in (SHARED / "data/derived-pairs256" / folder).glob("*.png")}
        prints = [Print(name=name, of=fingerprint(tile)) for name, tile in tiles.items()]
        for one in prints:
            rest = [other for other in prints if other is not one]
            same = [other.name for other in rest if np.array_equal(tiles[one.name], tiles[other.name])]
            found = find_leaks({Split.TRAIN: rest, Split.TEST: [one]}, stain)
            assert [leak.original in same for leak in found] == [True] * bool(same)
    assert len(prints) > 30


@pytest.mark.parametrize("changes", [{"split": SplitRule.BY_SLIDE}, {"val_fraction": 0.3}])
def test_unknown_slides_are_not_split(tmp_path: Path, changes: dict[str, object]) -> None:
    """One name that does not say its slide is enough; a pattern decides, also that each tile is a slide."""
    for part in ("train", "val"):
        names = [f"{part}{n}_{n}_0" for n in range(4)] + ["tissue-y3"] * (part == "train")
        touch(tmp_path, *(f"{part}{letter}/{name}.png" for letter in "AB" for name in names))
    with pytest.raises(PairingError) as caught:
        find_pairs(PrepSettings(**changes), single(tmp_path))  # type: ignore[arg-type] # a test names its changes
    message = str(caught.value)
    assert "1 of 9 names, for example 'tissue-y3', do not say which slide" in message
    assert "--set 'slide_pattern=^(.*)_y'" in message
    for pattern in (".+", r"^([a-z]+\d?)"):
        found = find_pairs(PrepSettings(**changes, slide_pattern=pattern), single(tmp_path))  # type: ignore[arg-type]
        assert {candidate.split for candidate in found.candidates} > {Split.TRAIN}
    assert find_pairs(PrepSettings(), single(tmp_path)).notes  # the published split stays, with a note
