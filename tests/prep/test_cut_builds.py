"""Stores from pictures of any size: their tiles are squares of the pictures, whoever cuts them, in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import prep.build.run as building
from prep.__main__ import app
from prep.build.describe import describe_plan
from prep.build.plan import make_plan
from prep.build.run import build, repair
from prep.build.runner import Processes
from prep.settings import Edge, Layout, PrepSettings, SplitRule
from prep.tiles.decoded import Decoded, PairU8
from store.format.layout import Unit
from store.format.manifest import journal_of
from store.images import Picture, PictureU8, load_picture, read_picture, write_png
from store.pairs.table import Pair
from store.reader import Store
from store.schema import PairingError, SchemaError, Split, Stain, StoreError
from store.verify import verify
from store.writing.journal import Journal
from tests.support.command_line import CommandLine
from tests.support.damage import alter
from tests.support.disks import contents
from tests.support.stores import draw_tile
from tests.support.tiles import lanczos, run, single

SIDE = 64
PICTURES = {"p1": (200, 200), "p2": (200, 200), "region one": (64, 150), "deep/p3": (131, 70)}  # height and width
SQUARES = {"p1": 9, "p2": 9, "region one": 2, "deep/p3": 2}


def cut(**changes: object) -> PrepSettings:
    pattern = "(p[12]|region|deep)"
    return lanczos(**{"tile_side": SIDE, "view_side": 32, "unit": 4, "slide_pattern": pattern, **changes})


def picture(key: int, index: int, height: int, width: int) -> PictureU8:
    return draw_tile(max(height, width), key, index)[:height, :width]


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    """Pictures of several sizes, in JPEG and PNG; the IHC of one is 3 px lower and 2 px wider."""
    data = tmp_path / "regions"
    for key, stain in enumerate(("HE", "IHC")):
        for index, (name, (height, width)) in enumerate(PICTURES.items()):
            more = (-3, 2) if (name, stain) == ("p2", "IHC") else (0, 0)
            pixels = picture(key, index, height + more[0], width + more[1])
            file = data / stain / f"{name}.{'jpg' if name == 'p1' else 'png'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(file), pixels[..., ::-1])
    return data


def published(regions: Path) -> Path:
    """The same pictures with one of them held out, as MIST has it."""
    data = regions.with_name("mist")
    for stain, letter in (("HE", "A"), ("IHC", "B")):
        for file in (regions / stain).rglob("*.*"):
            split = "val" if file.stem == "p1" else "train"
            target = data / f"{split}{letter}" / file.relative_to(regions / stain)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return data


def test_tiles_are_squares_of_the_pictures_and_the_table_says_which(regions: Path, tmp_path: Path) -> None:
    data = published(regions)
    run(cut(), data, tmp_path / "s.zarr")
    store = Store.open(tmp_path / "s.zarr")
    assert store.manifest.settings["tile_side"] == SIDE
    assert store.manifest.counts == {Split.TRAIN: 9 + 2 + 2, Split.TEST: 9}
    seen = dict.fromkeys(PICTURES, 0)
    for split in store.manifest.counts:
        for row, pair in enumerate(store.pairs(split)):
            assert pair.he_box is not None
            assert pair.ihc_box == pair.he_box
            assert pair.he_box.side == SIDE
            top, left = pair.he_box.top, pair.he_box.left
            name, _, place = pair.id.rpartition("_y")
            assert place == f"{top}_x{left}"
            assert pair.slide == {"p1": "p1", "p2": "p2", "region one": "region", "deep/p3": "deep"}[name]
            seen[name] += 1
            for stain, source in ((Stain.HE, pair.he), (Stain.IHC, pair.ihc)):
                whole = read_picture(data / source)
                np.testing.assert_array_equal(
                    store.picture(split, "tile", stain, row), whole[top : top + SIDE, left : left + SIDE]
                )
    assert seen == SQUARES
    assert verify(tmp_path / "s.zarr").intact


def test_the_bytes_depend_on_no_thread_no_memory_and_no_break(
    regions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, stores = published(regions), []
    for number, (threads, spare) in enumerate(((1, 0), (5, 10**9), (3, 4 * 300_000))):
        monkeypatch.setattr(building, "spare_memory", lambda spare=spare: spare)
        build(cut(), single(data), tmp_path / f"{number}.zarr", skip_bad=False, processes=Processes(threads=threads))
        stores.append(contents(tmp_path / f"{number}.zarr"))
    assert stores[0] == stores[1] == stores[2]

    commit = Journal.commit

    def fails(journal: Journal, unit: Unit, digests: dict[str, str]) -> None:
        if unit.index == 2:
            raise StoreError("the file server is away")
        commit(journal, unit, digests)

    monkeypatch.setattr(Journal, "commit", fails)
    with pytest.raises(StoreError, match="the file server is away"):
        run(cut(), data, tmp_path / "broken.zarr")
    monkeypatch.undo()
    assert journal_of(tmp_path / "broken.zarr").is_dir()
    run(cut(), data, tmp_path / "broken.zarr")
    assert contents(tmp_path / "broken.zarr") == stores[0]
    alter(tmp_path / "broken.zarr" / "train/x2/he/c/1/0/0/0/0")
    repair(None, single(data), tmp_path / "broken.zarr", processes=Processes(threads=2))
    assert contents(tmp_path / "broken.zarr") == stores[0]


@pytest.mark.parametrize(("spare", "most"), [(10**9, 1), (0, 2)])
def test_a_picture_is_decoded_once_for_all_its_squares(
    spare: int, most: int, regions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory for all of them once for the check and once for the build, however many units it is in."""
    loaded: list[Path] = []

    def load(path: Path, *, region: bool) -> Picture:
        loaded.append(path)
        return load_picture(path, region=region)

    monkeypatch.setattr("prep.tiles.reading.load_picture", load)
    monkeypatch.setattr(building, "spare_memory", lambda: spare)
    run(cut(unit=2), published(regions), tmp_path / "s.zarr")
    assert sorted(loaded) == sorted([*published(regions).rglob("*.png"), *published(regions).rglob("*.jpg")] * most)


@pytest.mark.parametrize("spare", [0, 10**9])
def test_a_picture_that_changes_between_check_and_build_is_noticed(
    spare: int, regions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(*_: object) -> None:
        write_png(regions / "IHC" / "p2.png", np.zeros((197, 202, 3), np.uint8))

    monkeypatch.setattr(building, "spare_memory", lambda: spare)
    monkeypatch.setattr(building, "check_free_space", change)
    with pytest.raises(PairingError, match=r"IHC/p2\.png: changed while the store was built"):
        run(cut(split=SplitRule.BY_SLIDE), regions, tmp_path / "s.zarr")


def test_the_last_squares_are_moved_inward_and_stay_on_one_side_of_the_split(regions: Path) -> None:
    plan = make_plan(cut(edge=Edge.SHIFT, split=SplitRule.BY_SLIDE), single(regions), threads=2)
    boxes = {pair.id: pair.he_box for pairs in plan.table.pairs.values() for pair in pairs}
    assert {name for name in boxes if name.startswith("region")} == {f"region one_y0_x{x}" for x in (0, 64, 86)}
    assert len(boxes) == 16 + 16 + 3 + 6
    slides = plan.table.slides
    assert not plan.table.leaking
    assert {len(slides[split]) > 0 for split in slides} == {True}
    text = " ".join(describe_plan(plan).split())
    assert "tiles 41 squares of 64 px cut from 4 pairs of pictures; edge=shift, 0.0% of their area is in no" in text
    assert "of 1 pairs the H&E and the IHC picture differ by up to 3 px" in text


@pytest.mark.parametrize("stride", [16, 40])
def test_squares_that_share_pixels_have_one_slide_and_one_split(stride: int, regions: Path) -> None:
    settings = cut(stride=stride, split=SplitRule.BY_SLIDE, val_fraction=0.2, slide_pattern="(p1|p2|region|deep)")
    table = make_plan(settings, single(regions), threads=2).table
    splits: dict[str, set[Split]] = {}
    for split, pairs in table.pairs.items():
        for pair in pairs:
            splits.setdefault(pair.he, set()).add(split)
    assert {len(where) for where in splits.values()} == {1}
    assert len(table.pairs) == 3


@pytest.mark.parametrize("layout", [Layout.SIDE_BY_SIDE, Layout.AUTO])
def test_each_half_of_a_joined_picture_is_cut(layout: Layout, tmp_path: Path) -> None:
    """Halves that are not square are cut if the layout is said: a folder of single pictures must not become pairs."""
    wide = tmp_path / "wide"
    for index in range(2):
        halves = [picture(key, index, 130, 200) for key in range(2)]
        write_png(wide / f"p{index}.png", np.hstack(halves))
    write_png(wide / "p3.png", np.hstack([picture(key, 3, 128, 128) for key in range(2)]))
    plan = make_plan(cut(layout=layout, split=SplitRule.BY_SLIDE, slide_pattern="^p."), single(wide), threads=1)
    if layout is Layout.AUTO:
        assert {bad.reason for bad in plan.table.skipped} == {
            "is 400 x 130 px, and a side-by-side picture must be twice as wide as high; if its halves are the two "
            "stains, say so: --set layout=side-by-side (make: SET=layout=side-by-side)"
        }
        return
    run(plan.settings, wide, tmp_path / "s.zarr")
    store = Store.open(tmp_path / "s.zarr")
    assert sum(store.manifest.counts.values()) == 6 + 6 + 4
    for split in store.manifest.counts:
        for row, pair in enumerate(store.pairs(split)):
            assert pair.he == pair.ihc
            assert pair.he_box
            for stain in Stain:
                half = np.split(read_picture(wide / pair.he), 2, axis=1)[stain is Stain.IHC]
                top, left = pair.he_box.top, pair.he_box.left
                expected = half[top : top + SIDE, left : left + SIDE]
                np.testing.assert_array_equal(store.picture(split, "tile", stain, row), expected)


def test_pictures_that_cannot_be_cut_are_bad_pairs_with_their_sizes(regions: Path) -> None:
    for name, he, ihc in (("p1 small", (63, 200), (63, 200)), ("p1 apart", (150, 150), (150, 133))):
        write_png(regions / "HE" / f"{name}.png", picture(0, 9, *he))
        write_png(regions / "IHC" / f"{name}.png", picture(1, 9, *ihc))
    plan = make_plan(cut(split=SplitRule.BY_SLIDE), single(regions), threads=1)
    assert {bad.id: bad.reason for bad in plan.table.skipped} == {
        "p1 small": "is 200 x 63 px, smaller than a square of tile_side = 64 px; leave it out, or cut smaller squares",
        "p1 apart": "H&E is 150 x 150 px, IHC is 133 x 150 px: more than 16 px apart, and which part is in both is not "
        "known; cut them alike",
    }
    assert plan.to_cut == "--set tile_side=32 (make: SET=tile_side=32)"


def test_a_side_that_does_not_fit_is_refused_before_a_picture_is_read(
    regions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("prep.tiles.reading.load_picture", lambda path, **_: pytest.fail(f"{path} was read"))
    prep = CommandLine("prep", app, monkeypatch, capsys)
    for words in (
        ("plan",),
        ("build", "--store", tmp_path / "s.zarr"),
        ("build", "--store", tmp_path / "t", "--dry-run"),
    ):
        done = prep(*words, "--data", regions, "--set", "tile_side=1020", "--set", "upscaler=lanczos")
        assert done.code == 2
        assert "nearest that do: 1016, 1024; cut the tiles to such a side, as --set tile_side=1016" in done.err


def test_without_a_side_the_refusal_names_the_one_that_fits(regions: Path, tmp_path: Path) -> None:
    """Rectangular tiles, tiles of several sizes, stains of two sizes, and none that is a tile."""
    settings = lanczos(view_side=32, split=SplitRule.BY_SLIDE, slide_pattern="(p[12]|region|deep)")
    plan = make_plan(settings, single(regions), threads=1, skip_bad=True)
    assert plan.to_cut == "--set tile_side=64 (make: SET=tile_side=64)"
    said = "squares can be cut from pictures of any size and shape: --set tile_side=64"
    assert said in " ".join(describe_plan(plan).split())
    with pytest.raises(PairingError, match=said):
        run(settings, regions, tmp_path / "s.zarr")
    for stain in ("HE", "IHC"):
        (regions / stain / "p1.jpg").unlink()
    with pytest.raises(PairingError, match=rf"no pair is left in train: .*{said}"):
        run(settings, regions, tmp_path / "s.zarr")
    with pytest.raises(SchemaError, match=r"smaller than view_side 512 px"):
        run(cut(view_side=512), regions, tmp_path / "s.zarr")


def test_halves_that_are_no_squares_can_be_cut_where_the_layout_is_said(tmp_path: Path) -> None:
    """A guessed layout is not believed that far: nothing is said that would make pairs of single pictures."""
    for index in range(2):
        write_png(tmp_path / f"p{index}.png", picture(0, index, 90, 200))
    for layout, setting in ((Layout.SIDE_BY_SIDE, "--set tile_side=64 "), (Layout.AUTO, "")):
        settings = lanczos(layout=layout, view_side=32, split=SplitRule.BY_SLIDE, slide_pattern=".+")
        with pytest.raises(PairingError, match=r"must be twice as wide as high; cut it again, or ch") as refused:
            make_plan(settings, single(tmp_path), threads=1)
        assert ("squares can be cut from pictures of any size and shape" in str(refused.value)) == bool(setting)
        assert setting in str(refused.value)


def test_a_picture_that_is_too_large_for_a_tile_can_be_cut(
    regions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow bounds what it opens against files that claim to be huge; the bound of a region is a larger one."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    data = published(regions)
    plan = make_plan(cut(), single(data), threads=2)
    assert sum(map(len, plan.table.pairs.values())) == sum(SQUARES.values())
    run(cut(), data, tmp_path / "s.zarr")
    with pytest.raises(PairingError, match=r"is larger than 30,000 px, no tile; cut .*: --set tile_side=64 \(make"):
        make_plan(lanczos(view_side=32), single(data), threads=2)
    monkeypatch.setattr("store.images.REGION_PIXELS", 15_000)
    with pytest.raises(PairingError, match=r"is larger than 15,000 px; cut it into smaller regions"):
        run(cut(), data, tmp_path / "t.zarr")
    assert Image.MAX_IMAGE_PIXELS == 30_000


def test_few_pictures_are_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the units in progress, and each from its first square to its last."""
    data, held = tmp_path / "many", list[int]()
    for key, stain in enumerate(("HE", "IHC")):
        for index in range(12):
            write_png(data / stain / f"p{index:02}.png", picture(key, index, 128, 128))
    take = Decoded.take

    def watched(decoded: Decoded, pair: Pair, prove: Callable[[PairU8 | None], PairU8]) -> PairU8:
        pictures = take(decoded, pair, prove)
        held.append(len(decoded._used))
        return pictures

    monkeypatch.setattr(Decoded, "take", watched)
    monkeypatch.setattr(building, "spare_memory", lambda: 0)
    run(cut(split=SplitRule.BY_SLIDE, slide_pattern=".+", unit=4), data, tmp_path / "s.zarr")
    assert len(held) == 12 * 4
    assert max(held) <= 4  # 2 units are read ahead by 2 threads
    assert held[-1] == 0


def test_one_picture_of_one_colour_is_one_picture_in_the_notes(tmp_path: Path) -> None:
    for stain in ("HE", "IHC"):
        for index in range(2):
            pixels = picture(stain == "HE", index, 128, 128)[..., :1].copy()
            pixels[:SIDE, SIDE:] = 255
            (tmp_path / "d" / stain).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(tmp_path / "d" / stain / f"p{index + 1}.png"), pixels)
    notes = make_plan(cut(split=SplitRule.BY_SLIDE), single(tmp_path / "d"), threads=1).notes
    assert "4 picture(s) grey to RGB, for example 'HE/p1.png'" in notes
    (blank,) = (note for note in notes if "of train have one colour" in note)
    assert blank.startswith("2 picture(s)")
    assert ".png at y=0 x=64'" in blank
