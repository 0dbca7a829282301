"""Tiles that share pixels stay on one side of every split, or are counted: where names and strides say that they do."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from prep.__main__ import app
from prep.build.plan import make_plan
from prep.settings import Layout, PrepSettings, SplitRule
from prep.tiles.discovery import find_pairs
from prep.tiles.layouts import Sources
from prep.tiles.overlaps.places import Place, place_tile, read_corners
from prep.tiles.overlaps.sharing import Overlap, Placed, find_overlaps, join_slides
from prep.tiles.overlaps.together import keep_together
from prep.tiles.pairs import Candidate, Discovery
from store.format.manifest import ROOT
from store.images import write_png
from store.overview import describe_leakage
from store.reader import Store
from store.schema import Box, PairingError, SettingsError, Split
from tests.support.command_line import CommandLine
from tests.support.stores import draw_tile
from tests.support.tile_folders import touch
from tests.support.tiles import lanczos, single

SIDE = 64


@pytest.fixture
def prep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine("prep", app, monkeypatch, capsys)


def where(name: str, size: tuple[int, int] = (512, 512), stride: int = 0, box: Box | None = None) -> object:
    (corner,) = read_corners([name], stride)
    if corner is None:
        return None
    place = place_tile(corner, size, box)
    return place.picture, place.top, place.left, place.bottom, place.right


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("slide7_y1024_x512", ("slide7", 1024, 512, 1536, 1024)),
        ("slide7_x512_y1024", ("slide7", 1024, 512, 1536, 1024)),
        ("set/slide7-x512-y1024", ("set/slide7", 1024, 512, 1536, 1024)),
        ("slide7_X=512_Y=1024", ("slide7", 1024, 512, 1536, 1024)),
        ("slide7_y1024x512_HE", ("slide7_HE", 1024, 512, 1536, 1024)),
        ("slide7 [x=512,y=1024]", ("slide7", 1024, 512, 1536, 1024)),
        ("slide7 [x=512,y=1024,w=512,h=512]", ("slide7", 1024, 512, 1536, 1024)),
        ("slide7 [d=2,x=512,y=1024,w=1024,h=1024]", ("slide7", 1024, 512, 2048, 1536)),
        ("slide7 [d=2,x=512,y=1024]", ("slide7", 1024, 512, 2048, 1536)),
        ("slide7 [x=512,y=1024,w=1024,h=1024,z=3]", ("slide7[z=3]", 1024, 512, 2048, 1536)),
        ("slide7 [x=512,y=1024,w=1024,h=1024]_y0_x256", ("slide7", 1024, 768, 1536, 1280)),
        ("slide7_y1024_x0_y0_x512", ("slide7", 1024, 512, 1536, 1024)),  # a square of a region of a slide
        ("slide7_4_2", None),  # rows and columns, and nobody knows how far they are apart
        ("slide7", None),
        ("y0_x512", None),  # of which picture?
        ("region/y0_x512", ("region/", 0, 512, 512, 1024)),
        ("galaxy12_wax3", None),
    ],
)
def test_names_say_where_a_tile_lies(name: str, expected: object) -> None:
    assert where(name) == expected


def test_a_stride_says_where_rows_and_columns_are() -> None:
    assert where("a/slide7_4_2", stride=256) == ("a/slide7", 1024, 512, 1536, 1024)
    assert where("a/slide7_4_2_y100_x20", (256, 256), stride=1500) == ("a/slide7", 6100, 3020, 6356, 3276)
    assert where("a/slide7_4_2_y100_x20", (256, 256)) == ("a/slide7_4_2", 100, 20, 356, 276)
    counted = [f"s_y{row}_x{column}" for row in range(3) for column in range(3)]
    assert read_corners(counted, 0) == [None] * 9  # 0, 1, 2 are no px
    (corner,) = (one for one in read_corners(counted, 256)[5:6] if one)
    assert (corner.top, corner.left) == (256, 512)
    assert where("slide7_y100_x200", (300, 400), box=Box(top=10, left=20, side=64)) == ("slide7", 110, 220, 174, 284)


def drawn(generator: np.random.Generator, count: int) -> list[Placed]:
    tiles = []
    for number in range(count):
        top, left, height, width = (int(n) for n in generator.integers((0, 0, 1, 1), (60, 60, 12, 12)))
        place = Place(picture=f"p{number % 2}", top=top, left=left, bottom=top + height, right=left + width)
        split = list(Split)[int(generator.integers(3))]
        slide = f"s{int(generator.integers(12)):02}"
        tiles.append(Placed(name=f"t{number:03}", split=split, slide=slide, place=place if number % 7 else None))
    return tiles


def overlap(one: Placed, two: Placed) -> bool:
    a, b = one.place, two.place
    if a is None or b is None or a.picture != b.picture:
        return False
    return a.top < b.bottom and b.top < a.bottom and a.left < b.right and b.left < a.right


@pytest.mark.parametrize("seed", range(20))
def test_overlaps_and_groups_are_those_of_the_plain_way(seed: int) -> None:
    """Against every tile with every other one."""
    generator = np.random.default_rng(seed)
    tiles = drawn(generator, int(generator.integers(2, 60)))
    rank = {split: number for number, split in enumerate(Split)}
    expected = {
        one.name for one in tiles if any(rank[two.split] < rank[one.split] and overlap(one, two) for two in tiles)
    }
    found = find_overlaps(tiles)
    assert {one.name for one in found} == expected
    by_name = {tile.name: tile for tile in tiles}
    for leak in found:
        tile, other = by_name[leak.name], by_name[leak.original]
        assert (leak.split, leak.other) == (tile.split, other.split)
        assert overlap(tile, other)
        assert rank[leak.other] < rank[leak.split]
    groups = {tile.slide: tile.slide for tile in tiles}
    for _ in tiles:  # until nothing changes any more
        for one in tiles:
            for two in tiles:
                if overlap(one, two):
                    groups[one.slide] = groups[two.slide] = min(groups[one.slide], groups[two.slide])
    shared = Counter(groups.values())
    assert join_slides(tiles) == {slide: group for slide, group in groups.items() if shared[group] > 1}


def test_many_tiles_of_one_picture_take_no_time() -> None:
    tiles = [
        Placed(
            name=f"{row}_{column}",
            split=Split.TEST if (row + column) % 5 == 0 else Split.TRAIN,
            slide=f"{row}_{column}",
            place=Place(
                picture="p", top=256 * row, left=256 * column, bottom=256 * row + 512, right=256 * column + 512
            ),
        )
        for row in range(120)
        for column in range(120)
    ]
    assert set(join_slides(tiles).values()) == {"0_0"}
    assert len(find_overlaps(tiles)) == 120 * 120 // 5


def named(data: Path, names: dict[str, list[str]], side: int = SIDE) -> Path:
    """MIST folders with drawn tiles under these names."""
    for split, tiles in names.items():
        for key, stain in enumerate("AB"):
            for index, name in enumerate(tiles):
                pixels = draw_tile(side, key, index, len(split))
                write_png(data / f"{split}{stain}" / f"{name}.png", pixels)
    return data


def splits_of(found: Discovery) -> dict[str, Split]:
    return {candidate.id: candidate.split for candidate in found.candidates}


def apart(**changes: object) -> PrepSettings:
    return lanczos(**{"split": SplitRule.BY_SLIDE, "slide_pattern": ".+", "view_side": 32, **changes})


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("form", "stride"),
    [("{p}_y{y}_x{x}", 0), ("{p}_x{x}_y{y}", 0), ("{p} [x={x},y={y},w=64,h=64]", 0), ("{p}_{row}_{column}", 32)],
)
def test_by_slide_keeps_tiles_that_share_pixels_together(form: str, stride: int, seed: int, tmp_path: Path) -> None:
    """Although slide_pattern gives each tile a slide of its own: rows of tiles 32 px apart, 200 px between rows."""
    names = [
        form.format(p=picture, y=200 * row, x=32 * column, row=20 * row, column=column)
        for picture in ("p", "q")
        for row in range(2)
        for column in range(4)
    ]
    data = named(tmp_path / "d", {"train": names, "val": ["other_y0_x0" if stride == 0 else "other_0_0"]})
    settings = apart(name_stride=stride, seed=seed, val_fraction=0.25, test_fraction=0.25)
    found = find_pairs(settings, single(data))
    splits = splits_of(found)
    rows = [[splits[name] for name in names[start : start + 4]] for start in range(0, 16, 4)]
    assert [len(set(row)) for row in rows] == [1, 1, 1, 1]
    assert set(splits.values()) == set(Split)
    assert any("tiles of 16 slides share pixels with tiles of another one" in note for note in found.notes)
    plan = make_plan(settings, single(data), threads=1)
    assert plan.overlaps == ()
    published = {**{"split": SplitRule.PUBLISHED, "val_fraction": 0.4}}
    held = splits_of(find_pairs(apart(name_stride=stride, seed=seed, **published), single(data)))
    rows = [[held[name] for name in names[start : start + 4]] for start in range(0, 16, 4)]
    assert [len(set(row)) for row in rows] == [1, 1, 1, 1]
    assert Split.VAL in held.values()


def test_a_slide_that_is_chosen_takes_those_with_it_that_share_its_pixels(tmp_path: Path) -> None:
    data = named(tmp_path / "d", {"train": ["p_y0_x0", "p_y0_x32", "p_y0_x500", "q_y0_x0"], "val": ["r_y0_x0"]})
    splits = splits_of(find_pairs(apart(test_slides=("p_y0_x32",)), single(data)))
    assert {name for name, split in splits.items() if split is Split.TEST} == {"p_y0_x0", "p_y0_x32"}
    with pytest.raises(PairingError, match=r"test_slides names 'p_y0_x0' and val_slides 'p_y0_x32', and tiles of the"):
        find_pairs(apart(test_slides=("p_y0_x0",), val_slides=("p_y0_x32",)), single(data))
    alone = named(tmp_path / "e", {"train": ["p_y0_x0", "p_y0_x32"], "val": ["p_y0_x64", "p_y0_x48"]})
    with pytest.raises(PairingError, match=r"1 slide\(s\).*slides whose tiles share pixels count as one: p_y0_x0, "):
        find_pairs(apart(), single(alone))


def test_tens_of_thousands_of_tiles_are_kept_together_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """From names to groups; what compares each with each takes minutes for these."""
    monkeypatch.setattr("prep.tiles.overlaps.together.picture_size", lambda path: (512, 512))
    names = [f"{s}_y{256 * row}_x{256 * column}" for s in range(4) for row in range(70) for column in range(70)]
    candidates = tuple(Candidate(id=name, split=Split.TRAIN, slide=name, he=name, ihc=name) for name in names)
    folder = Sources(he=Path(), ihc=Path(), joined=False)
    found = Discovery(
        layout=Layout.FOLDERS, sources=folder, published=False, candidates=candidates, unpaired=(), notes=(), read_as=""
    )
    start = time.process_time()
    _, groups = keep_together(apart(), found)
    assert time.process_time() - start < 10
    assert (len(groups), len(set(groups.values()))) == (len(names), 4)


def test_heads_are_read_only_where_slides_could_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{stain}/{slide}_y0_x{x}.png" for stain in ("HE", "IHC") for slide in "abc" for x in (0, 9, 99)))
    monkeypatch.setattr("prep.tiles.overlaps.together.picture_size", lambda path: pytest.fail(f"{path} was read"))
    found = find_pairs(apart(slide_pattern="^(.*)_y"), single(tmp_path))
    assert set(splits_of(found).values()) == {Split.TRAIN, Split.TEST}


WORDS = ("--set", "upscaler=lanczos", "--set", "view_side=32", "--set", "margin=4")
SHARED = {"train": ["s_y0_x0", "s_y0_x64", "s_y300_x0"], "val": ["s_y0_x32", "s_y32_x90", "s_y300_x64"]}


def test_a_published_test_set_that_shares_pixels_is_refused_or_counted_everywhere(
    tmp_path: Path, prep: CommandLine
) -> None:
    data, store = named(tmp_path / "d", SHARED), tmp_path / "s.zarr"
    said = (
        "2 of 3 tiles of test share pixels with tiles of train (leakage), by the coordinates in their names, for "
        "example 's_y0_x32' with 's_y0_x0'"
    )
    for words in (("plan",), ("build", "--store", store)):
        done = prep(*words, "--data", data, *WORDS)
        assert done.code == 2
        assert f"{said}: scores on pictures that were trained on say nothing; keep tiles that share pixels" in done.err
        assert "--set allow_leakage=true (make: SET=allow_leakage=true)" in done.err
    done = prep("build", "--store", store, "--data", data, *WORDS, "--set", "allow_leakage=true")
    assert done.code == 0
    assert said in " ".join(done.err.split())
    opened = Store.open(store)
    assert opened.manifest.overlaps == {Split.TEST: 2}
    assert describe_leakage(opened, Split.TRAIN) == []
    assert (
        "2 of 3 tiles of test share pixels with tiles of another split (leakage): its scores are optimistic"
        in describe_leakage(opened, Split.TEST)
    )
    again = prep("build", "--store", store, "--data", data, *WORDS, "--set", "allow_leakage=true")
    assert "already exists, finished" in again.err


def test_rows_and_columns_count_only_with_a_stride_and_other_stores_stay_as_they_were(
    tmp_path: Path, prep: CommandLine
) -> None:
    names = {"train": ["s_0_0", "s_0_2"], "val": ["s_0_1", "s_9_9"]}
    data, store = named(tmp_path / "d", names), tmp_path / "s.zarr"
    assert prep("build", "--store", store, "--data", data, *WORDS).code == 0
    manifest = json.loads((store / ROOT).read_text())["attributes"]["manifest"]
    assert not {"overlaps", "leakage"} & manifest.keys()
    assert not {"tile_side", "stride", "edge", "name_stride"} & manifest["settings"].keys()
    done = prep("plan", "--data", data, *WORDS, "--set", "name_stride=48")
    assert (done.code, "1 of 2 tiles of test share pixels with tiles of train" in done.err) == (2, True)
    assert prep("plan", "--data", data, *WORDS, "--set", "name_stride=64").code == 0


def test_a_stride_that_says_nothing_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{stain}/p{n}.png" for stain in ("HE", "IHC") for n in range(3)))
    with pytest.raises(SettingsError, match=r"name_stride = 256 says .* no name has that form, such as 'p0'; leave"):
        find_pairs(apart(name_stride=256), single(tmp_path))


def test_squares_of_regions_that_overlap_are_kept_together(tmp_path: Path) -> None:
    """Regions of one slide, 200 px a side, whose names say where they are: 150 px apart they share 50 px."""
    names = {"train": ["s_y0_x0", "s_y0_x150", "s_y0_x400"], "val": ["t_y0_x0"]}
    data = named(tmp_path / "d", names, side=200)
    plan = make_plan(apart(tile_side=64), single(data), threads=1)
    pairs = [(split, pair) for split, pairs in plan.table.pairs.items() for pair in pairs]
    joined = {split for split, pair in pairs if pair.slide in ("s_y0_x0", "s_y0_x150")}
    assert (len(pairs), len(joined), plan.overlaps) == (4 * 9, 1, ())
    leak = named(tmp_path / "e", {"train": ["s_y0_x0"], "val": ["s_y0_x150"]}, side=200)
    overlaps = make_plan(lanczos(tile_side=64, view_side=32), single(leak), threads=1).overlaps
    first = Overlap(split=Split.TEST, name="s_y0_x150_y0_x0", other=Split.TRAIN, original="s_y0_x0_y0_x128")
    assert overlaps[0] == first
    assert {one.name for one in overlaps} == {f"s_y0_x150_y{64 * row}_x0" for row in range(3)}


def test_squares_of_neighbours_in_a_grid_are_kept_together_where_their_distance_is_known(tmp_path: Path) -> None:
    """As in IHC4BC: regions whose rows and columns are half a region apart; squares of two of them share pixels."""
    names = [f"0_{patient}_11_{row}_{column}" for patient in (1, 2) for row in range(2) for column in range(2)]
    data = named(tmp_path / "d", {"train": names, "val": ["0_3_11_0_0"]}, side=96)
    for name_stride, shared in ((0, 0), (48, 8)):
        for seed in range(3):
            plan = make_plan(apart(tile_side=64, name_stride=name_stride, seed=seed), single(data), threads=1)
            splits: dict[str, set[Split]] = {}
            for split, pairs in plan.table.pairs.items():
                for pair in pairs:
                    splits.setdefault(pair.he.partition("_11_")[0], set()).add(split)
            assert sum(f"{shared} slides share pixels" in note for note in plan.notes) == bool(shared)
            assert not shared or {len(found) for found in splits.values()} == {1}
    leak = named(tmp_path / "e", {"train": names[:3], "val": names[3:4]}, side=96)
    overlaps = make_plan(lanczos(tile_side=64, view_side=32, name_stride=48), single(leak), threads=1).overlaps
    assert [one.name for one in overlaps] == ["0_1_11_1_1_y0_x0"]
