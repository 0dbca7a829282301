"""The plan as a person reads it: plain words about every view, at most 100 columns."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from prep.build.describe import describe_geometry, describe_plan
from prep.build.plan import make_plan
from prep.settings import PrepSettings, Recipe, SplitRule
from prep.views import plan_geometries
from store.pairs.table import Pair, describe_slides
from tests.support.tiles import TILES, lanczos, single, write_tiles


@pytest.mark.parametrize(
    ("settings", "tile_side", "texts"),
    [
        (
            PrepSettings(view_side=128),
            256,
            [
                "the whole tile, 256 px, downsampled to 128 px",
                "1 box of 128 px per pair, cut from the tile downsampled to 128 px (64 px there), enlarged 2x",
                "1 box of 64 px per pair, cut from the tile downsampled to 128 px (32 px there), enlarged 4x",
            ],
        ),
        (
            PrepSettings(view_side=256, boxes=3),
            256,
            [
                "the whole tile, 256 px, unchanged",
                "3 boxes of 128 px per pair, cut from the tile, enlarged 2x",
                "3 boxes of 64 px per pair, cut from the tile, enlarged 4x",
            ],
        ),
        (
            PrepSettings(recipe=Recipe.WIDE, view_side=256),
            1024,
            [
                "the whole tile, 1024 px, downsampled to 256 px",
                "1 box of 512 px per pair, cut from the tile as delivered, downsampled to 256 px",
                "1 box of 256 px per pair, cut from the tile as delivered, unchanged",
                "1 box of 128 px per pair, cut from the tile as delivered, enlarged 2x",
            ],
        ),
        (
            PrepSettings(recipe=Recipe.NATIVE, view_side=512),
            512,
            [
                "the whole tile, 512 px, unchanged",
                "1 box of 256 px per pair, cut from the tile as delivered, enlarged 2x",
                "1 box of 128 px per pair, cut from the tile as delivered, enlarged 4x",
            ],
        ),
    ],
)
def test_a_view_is_described_by_what_is_done_to_the_tile(
    settings: PrepSettings, tile_side: int, texts: list[str]
) -> None:
    assert [describe_geometry(geometry) for geometry in plan_geometries(settings, tile_side)] == texts


def test_a_plan_fits_100_columns_and_names_what_matters(mist: Path) -> None:
    for name in TILES[:3]:
        (mist / "trainB" / f"{name}.png").unlink()
    text = describe_plan(make_plan(lanczos(stain="HER2", mpp=0.4661), single(mist), threads=1))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0] == "tiles: H&E to HER2, tiles of 128 px, views of 64 px, recipe paper"
    assert lines[1:6] == [
        "  pairs     3 in train (1 slide), 3 in test (1 slide)",
        "  train     s2 (3)",
        "  test      s3 (3)",
        "  read as:  MIST, 3 train + 3 test pairs, in trainA trainB valA valB",
        "  split     published, seed 0; none of 2 slides occurs in more than one split",
    ]
    assert "  mpp       tile 0.4661, x1 0.9322, x2 0.4661, x4 0.23305 um per pixel" in lines
    assert "  upscaler  lanczos: interpolation, no super-resolution" in lines
    words = " ".join(text.split())
    assert "bad 3 bad pairs: build stops at them; --skip-bad (make: SKIP_BAD=1) skips and lists them" in words
    assert "train 's1_0_0': no IHC tile of that name in trainB" in words
    assert "field" not in words
    assert "as it is" not in words


def test_a_plan_says_what_skip_bad_does(mist: Path) -> None:
    (mist / "trainB" / f"{TILES[0]}.png").unlink()
    plan = make_plan(lanczos(), single(mist), threads=1)
    assert "  bad       1 bad pair: build stops at it; --skip-bad (make: SKIP_BAD=1) skips and lists it" in (
        describe_plan(plan).splitlines()
    )
    assert "  bad       1 bad pair, skipped" in describe_plan(plan, skip_bad=True).splitlines()


def test_a_plan_without_a_decision_names_no_precision(mist: Path) -> None:
    plan = make_plan(PrepSettings(view_side=64, margin=0), single(mist), threads=1)
    text = describe_plan(plan)
    assert "  upscaler  bsrgan, in the precision that suits the device; the build chooses and stores it" in text
    assert "auto" not in text
    assert "TFLOP of super-resolution: a minute or less on two CPU cores, a minute or less on an H200" in " ".join(
        text.split()
    )


def test_leakage_and_unknown_slides_fit_100_columns(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for key, stain in enumerate("AB"):
            names = [f"a-long-name-of-a-slide-{n}_{part}" for n in range(3)]
            write_tiles(tmp_path / "d" / f"{part}{stain}", names, key + 10 * (part == "val"))
    unknown = describe_plan(make_plan(lanczos(), single(tmp_path / "d"), threads=1))
    assert "for example --set 'slide_pattern=^(.*)_y'" in " ".join(unknown.split())
    leaking = describe_plan(make_plan(lanczos(slide_pattern="^(.*)_"), single(tmp_path / "d"), threads=1))
    assert "3 of 3 slides occur in more than one split" in leaking
    assert "(leakage): test scores will be optimistic" in " ".join(leaking.split())
    apart = lanczos(slide_pattern="^(.*)_", split=SplitRule.BY_SLIDE, test_fraction=0.4)
    assert "leakage" not in describe_plan(make_plan(apart, single(tmp_path / "d"), threads=1))
    assert max(len(line) for text in (unknown, leaking) for line in text.splitlines()) <= 100


def test_tiles_of_train_that_are_test_tiles_too_are_leakage(tmp_path: Path) -> None:
    """One H&E picture with two stains, under two names: the slides differ, the bytes do not."""
    for key, (part, names) in enumerate((p, n) for p, n in (("train", ["a_0_0"]), ("val", ["b_0_0", "b_1_0"]))):
        for stain in "AB":
            write_tiles(tmp_path / "d" / f"{part}{stain}", names, 10 * key + (stain == "B"))
    assert "leakage" not in describe_plan(make_plan(lanczos(), single(tmp_path / "d"), threads=1))
    shutil.copy(tmp_path / "d/trainA/a_0_0.png", tmp_path / "d/valA/b_1_0.png")
    said = " ".join(describe_plan(make_plan(lanczos(), single(tmp_path / "d"), threads=1)).split())
    assert "1 of 2 H&E tiles of test are also in train (leakage), for example 'valA/b_1_0.png' is 'trainA/a_" in said
    assert "IHC tiles of test" not in said


def test_the_slides_of_every_split_are_listed_with_their_tiles(tmp_path: Path) -> None:
    for key, stain in enumerate("AB"):
        write_tiles(tmp_path / "d" / f"train{stain}", ["t1_0_0"], key)
        write_tiles(tmp_path / "d" / f"val{stain}", [f"s{n}_0_0" for n in range(8)], 10 + key)
    said = " ".join(describe_plan(make_plan(lanczos(), single(tmp_path / "d"), threads=1)).split())
    assert "1 in train (1 slide), 8 in test (8 slides)" in said
    assert "train t1 (1) test s0 (1), s1 (1), s2 (1), s3 (1), s4 (1), s5 (1), s6 (1), s7 (1) read as:" in said


def test_of_very_many_slides_the_first_are_listed() -> None:
    many = [pair_of(f"s{n:03}", f"{n}_{tile}") for n in range(61) for tile in range(2)]
    assert describe_slides(many).endswith("s059 (2), and 1 more")
    assert describe_slides(many[::2]) == "each tile counts as a slide"


def pair_of(slide: str, name: str) -> Pair:
    return Pair(id=name, slide=slide, he=name, ihc=name, he_digest="", ihc_digest="")


def test_a_plan_says_that_slides_were_chosen(tmp_path: Path) -> None:
    for key, stain in enumerate(("HE", "IHC")):
        write_tiles(tmp_path / "d" / stain, [f"s{n}_0_0" for n in range(4)], 10 * key)
    chosen = lanczos(split=SplitRule.BY_SLIDE, test_slides=("s2",), val_slides=("s0",))
    said = " ".join(describe_plan(make_plan(chosen, single(tmp_path / "d"), threads=1)).split())
    assert "split by-slide, seed 0; slides of test and val chosen by name; none of 4 slides" in said


def test_a_plan_says_that_a_split_has_nothing_left(tmp_path: Path) -> None:
    for key, (part, names) in enumerate((("train", ["a_0_0"]), ("val", ["b_0_0"]))):
        for stain in "AB":
            write_tiles(tmp_path / "d" / f"{part}{stain}", names, 10 * key + (stain == "B"))
    (tmp_path / "d/valB/b_0_0.png").write_bytes(b"")
    said = " ".join(describe_plan(make_plan(lanczos(), single(tmp_path / "d"), threads=1), skip_bad=True).split())
    assert "note test has nothing left: all 1 that it had are bad or left out" in said


def test_a_plan_that_a_build_would_refuse_promises_no_tables(tmp_path: Path) -> None:
    for part, name in (("train", "a_0_0"), ("val", "b_0_0")):
        for key, stain in enumerate("AB"):
            write_tiles(tmp_path / "d" / f"{part}{stain}", [name], key)
    refused = describe_plan(make_plan(lanczos(), single(tmp_path / "d"), threads=1))
    assert "a build stops at that" in " ".join(refused.split())
    allowed = describe_plan(make_plan(lanczos(allow_leakage=True), single(tmp_path / "d"), threads=1))
    assert "test scores will be optimistic, and every table will say so" in " ".join(allowed.split())
