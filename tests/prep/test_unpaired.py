"""Unpaired folders: every tile is checked, split and cut alone, and becomes a row by its number."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from prep.__main__ import app
from prep.build.describe import describe_plan
from prep.build.plan import BuildPlan, make_plan
from prep.build.run import build, repair
from prep.build.runner import Processes
from prep.settings import Enlarger, Layout, PrepSettings, SplitRule
from prep.tiles.discovery import Data, find_pairs
from prep.tiles.unpaired import make_rows, tiles_of_row
from prep.views import Geometry, plan_boxes
from store.images import read_picture, write_png
from store.pairs.table import NO_DIGEST, Pair
from store.reader import TILE, Store
from store.schema import PairingError, SettingsError, Split, Stain
from store.settings import load
from store.verify import verify
from tests.support.command_line import CommandLine
from tests.support.places import ROOT
from tests.support.stores import draw_tile
from train.__main__ import app as train_app

SIDE = 64
SETTINGS = PrepSettings(paired=False, view_side=32, margin=2, unit=3, upscaler=Enlarger.LANCZOS)
ONE = Processes(threads=1)
CYCLEGAN = {
    "trainA": [f"h{slide}_{n}_0" for slide in (1, 2) for n in range(4)],
    "trainB": ["i1_0_0", "i1_1_0", "h1_0_0"],
    "testA": ["h8_0_0"],
    "testB": ["i9_0_0", "i9_1_0", "i9_2_0", "h8_0_0"],
}


def write_tiles(data: Path, folders: dict[str, list[str]], side: int = SIDE) -> Path:
    for number, (folder, names) in enumerate(folders.items()):
        for place, name in enumerate(names):
            write_png(data / folder / f"{name}.png", draw_tile(side, number, place))
    return data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiles(tmp_path_factory.mktemp("unpaired") / "set", CYCLEGAN)


@pytest.fixture(scope="module")
def store(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("built") / "u.zarr"
    build(SETTINGS, Data(he=data, ihc=data), path, skip_bad=False, processes=ONE)
    return Store.open(path)


def plan(data: Path, settings: PrepSettings = SETTINGS, ihc: Path | None = None) -> BuildPlan:
    return make_plan(settings, Data(he=data, ihc=ihc or data), threads=1)


def counts(plan: BuildPlan) -> dict[str, tuple[int, int]]:
    return {split: (tiles[Stain.HE], tiles[Stain.IHC]) for split, tiles in plan.table.tiles.items()}


def test_every_tile_is_in_the_store_once_under_its_own_name(data: Path, store: Store) -> None:
    assert store.manifest.tiles == {
        Split.TRAIN: {Stain.HE: 8, Stain.IHC: 3},
        Split.TEST: {Stain.HE: 1, Stain.IHC: 4},
    }
    for (split, stain), folder in zip(
        [(split, stain) for split in (Split.TRAIN, Split.TEST) for stain in Stain], CYCLEGAN, strict=True
    ):
        found = {}
        for row in store.rows(split, stain):
            pair = store.pairs(split)[row]
            found[pair.id_of(stain)] = store.picture(split, TILE, stain, row)
            assert pair.tile_of(stain) == f"{folder}/{pair.id_of(stain)}.png"
            assert pair.slide_of(stain) == pair.id_of(stain)[:2]
        assert sorted(found) == sorted(CYCLEGAN[folder])
        for name, picture in found.items():
            assert (picture == read_picture(data / folder / f"{name}.png")).all()
    assert verify(store.path).intact


def test_boxes_are_drawn_by_the_name_of_each_tile(store: Store) -> None:
    geometry = Geometry(view=store.manifest.view("x4"), tile_side=SIDE, view_side=32, margin=2)
    for stain in Stain:
        for row in store.rows(Split.TEST, stain):
            name = store.pairs(Split.TEST)[row].id_of(stain)
            assert [store.box(Split.TEST, "x4", row, stain=stain)] == plan_boxes(geometry, 0, name)


def test_the_plan_says_how_many_of_each_stain_there_are_and_that_names_match(data: Path) -> None:
    text = " ".join(describe_plan(plan(data)).split())
    assert "unpaired 8 H&E and 3 IHC in train" in text
    assert "1 H&E and 4 IHC in test" in text
    assert "H&E: h1 (4), h2 (4); IHC: h1 (1), i1 (2)" in text
    assert "2 names of H&E tiles are names of IHC tiles: these look like pairs" in text
    assert "per tile, cut from the tile" in text
    assert "pairs 8" not in text


def test_tiles_of_a_store_of_pairs_are_the_same_without_pairs(tmp_path: Path) -> None:
    """Also the plan's note: all names match."""
    data = write_tiles(tmp_path / "set", {"trainA": ["a_0_0", "b_0_0"], "trainB": ["a_0_0", "b_0_0"],
                                          "valA": ["c_0_0"], "valB": ["c_0_0"]})  # fmt: skip
    both = {}
    for paired in (True, False):
        path = tmp_path / f"{paired}.zarr"
        build(replace(SETTINGS, paired=paired), Data(he=data, ihc=data), path, skip_bad=False, processes=ONE)
        both[paired] = Store.open(path)
    for split in (Split.TRAIN, Split.TEST):
        for view in ("tile", "x1", "x2", "x4"):
            for stain in Stain:
                for row in both[True].rows(split, stain):
                    pictures = [both[paired].picture(split, view, stain, row) for paired in both]
                    assert (pictures[0] == pictures[1]).all()
    assert "paired" not in json.loads((both[True].path / "zarr.json").read_text())["attributes"]["manifest"]
    assert not (both[True].path / "train/pair/ihc_id").exists()
    assert "3 names of H&E tiles" in describe_plan(plan(data))


def test_two_folders_and_by_slide_keep_a_slide_on_one_side(tmp_path: Path) -> None:
    folders = {
        "h": [f"s{slide}_{n}_0" for slide in range(6) for n in range(3)],
        "i": [f"s{slide}_{n}_1" for slide in (1, 2) for n in range(2)] + [f"t{n}_0_0" for n in range(10)],
    }
    data = write_tiles(tmp_path, folders)
    settings = replace(SETTINGS, split=SplitRule.BY_SLIDE, val_fraction=0.2, test_fraction=0.2)
    found = plan(data / "h", settings, data / "i")
    assert found.table.leaking == ()
    for split in Split:
        for stain in Stain:
            assert found.table.tiles[split][stain] > 0, (split, stain)
    assert sum(he for he, _ in counts(found).values()) == 18
    assert sum(ihc for _, ihc in counts(found).values()) == 14


def test_named_slides_are_held_out_of_the_stain_that_has_them(tmp_path: Path) -> None:
    data = write_tiles(tmp_path, {"h": [f"s{n}_0_0" for n in range(5)], "i": [f"t{n}_0_0" for n in range(5)]})
    settings = replace(SETTINGS, split=SplitRule.BY_SLIDE, test_slides=("s1", "t3"))
    found = plan(data / "h", settings, data / "i")
    assert counts(found) == {Split.TRAIN: (4, 4), Split.TEST: (1, 1)}
    assert found.table.slides[Split.TEST] == {"s1", "t3"}


def test_ihc_of_too_few_slides_stays_in_train_and_the_plan_says_what_works(tmp_path: Path) -> None:
    data = write_tiles(tmp_path, {"h": [f"s{n}_0_0" for n in range(4)], "i": ["t0_0_0", "t0_1_0"]})
    found = plan(data / "h", replace(SETTINGS, split=SplitRule.BY_SLIDE), data / "i")
    assert counts(found)[Split.TEST] == (1, 0)
    text = " ".join(describe_plan(found).split())
    assert "test has no IHC tiles: `train predict` translates its H&E" in text
    path = tmp_path / "u.zarr"
    settings = replace(SETTINGS, split=SplitRule.BY_SLIDE)
    build(settings, Data(he=data / "h", ihc=data / "i"), path, skip_bad=False, processes=ONE)
    assert verify(path).intact


@pytest.mark.parametrize("folder", ["trainA", "trainB"])
def test_a_bad_tile_stops_the_build_or_is_skipped_alone(data: Path, tmp_path: Path, folder: str) -> None:
    here = shutil.copytree(data, tmp_path / "set")
    (here / folder / "h1_0_0.png").write_bytes(b"no picture")
    write_png(here / folder / "odd_0_0.png", draw_tile(SIDE, 5)[:, :40])
    name = "H&E" if folder == "trainA" else "IHC"
    with pytest.raises(PairingError, match=rf"2 bad tiles: .*{name} tile .*{name} tile is 40 x 64 px"):
        plan(here).refuse(skip_bad=False)
    path = tmp_path / "u.zarr"
    build(SETTINGS, Data(he=here, ihc=here), path, skip_bad=True, processes=ONE)
    tiles = Store.open(path).manifest.tiles[Split.TRAIN]
    assert (tiles[Stain.HE], tiles[Stain.IHC]) == ((7, 3) if folder == "trainA" else (8, 2))
    assert len(Store.open(path).skipped()) == 2


def test_both_stains_have_one_side(data: Path, tmp_path: Path) -> None:
    here = write_tiles(shutil.copytree(data, tmp_path / "set"), {"trainB": ["large_0_0"]}, side=2 * SIDE)
    with pytest.raises(PairingError, match="IHC tile is 128 px, most tiles are 64 px"):
        plan(here).refuse(skip_bad=False)


def test_squares_are_cut_of_each_picture_alone(tmp_path: Path) -> None:
    for folder, shape, names in (("trainA", (130, 200), ["a"]), ("trainB", (64, 64), ["b", "a"]),
                                 ("testA", (64, 140), ["c"]), ("testB", (70, 70), ["d"])):  # fmt: skip
        for place, name in enumerate(names):
            write_png(tmp_path / folder / f"{name}.png", draw_tile(256, len(folder), place)[: shape[0], : shape[1]])
    settings = replace(SETTINGS, tile_side=64)
    found = plan(tmp_path, settings)
    assert counts(found) == {Split.TRAIN: (6, 2), Split.TEST: (2, 1)}
    assert "11 squares of 64 px cut from 5 pictures" in describe_plan(found)
    path = tmp_path / "u.zarr"
    build(settings, Data(he=tmp_path, ihc=tmp_path), path, skip_bad=False, processes=ONE)
    store = Store.open(path)
    for split in (Split.TRAIN, Split.TEST):
        for stain in Stain:
            for row in store.rows(split, stain):
                pair = store.pairs(split)[row]
                box = pair.he_box if stain is Stain.HE else pair.ihc_box
                assert box
                source = read_picture(tmp_path / pair.tile_of(stain))
                square = source[box.top : box.top + 64, box.left : box.left + 64]
                assert (store.picture(split, TILE, stain, row) == square).all()


def test_equal_pictures_in_two_splits_are_found_in_each_stain(data: Path, tmp_path: Path) -> None:
    here = shutil.copytree(data, tmp_path / "set")
    shutil.copy(here / "trainB/i1_0_0.png", here / "testB/copy_0_0.png")
    with pytest.raises(PairingError, match="1 of 5 IHC tiles of test are also in train"):
        plan(here).refuse(skip_bad=False)
    shutil.copy(here / "trainB/i1_0_0.png", here / "testA/other_0_0.png")  # another stain: no copy
    with pytest.raises(PairingError, match="1 of 5 IHC tiles of test") as refused:
        plan(here).refuse(skip_bad=False)
    assert "H&E tiles of test" not in str(refused.value)


def test_a_build_is_resumed_and_repaired(data: Path, store: Store, tmp_path: Path) -> None:
    path, where = tmp_path / "u.zarr", Data(he=data, ihc=data)
    build(SETTINGS, where, path, skip_bad=False, processes=ONE)
    for place in (path, *path.rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)
    (path / "train/x4/ihc/c/1/0/0/0/0").unlink()
    (path / "test/x1/ihc_box/c/0/0/0").write_bytes(b"")
    repair(None, where, path, processes=ONE)
    assert verify(path).intact
    assert Store.open(path).manifest.seal == store.manifest.seal


def test_a_picture_of_both_stains_is_a_pair(tmp_path: Path) -> None:
    data = write_tiles(tmp_path, {"train": ["a_0_0"], "test": ["b_0_0"]})
    with pytest.raises(PairingError, match="paired = false with layout side-by-side: a picture that holds both stains"):
        plan(data, replace(SETTINGS, layout=Layout.SIDE_BY_SIDE))


def test_train_has_both_stains(data: Path, tmp_path: Path) -> None:
    here = shutil.copytree(data, tmp_path / "set")
    for file in (here / "trainB").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(PairingError, match="no IHC tile is left in train: 3 bad tiles"):
        plan(here)


@pytest.mark.parametrize(("folders", "says"), [
    ("testA", "test has no IHC tiles: `train predict` translates its H&E"),
    ("testB", "test has no H&E tiles: nothing of it can be translated"),
    ("valA testB", "val has no IHC tiles"),
])  # fmt: skip
def test_held_out_folders_may_be_of_one_stain(data: Path, tmp_path: Path, folders: str, says: str) -> None:
    here = tmp_path / "set"
    for folder in ("trainA", "trainB"):
        shutil.copytree(data / folder, here / folder)
    write_tiles(here, {folder: [f"{folder}{n}_0_0" for n in range(2)] for folder in folders.split()}, side=SIDE)
    assert says in " ".join(describe_plan(plan(here, replace(SETTINGS, allow_leakage=True))).split())
    path = tmp_path / "u.zarr"
    build(replace(SETTINGS, allow_leakage=True), Data(he=here, ihc=here), path, skip_bad=False, processes=ONE)
    assert verify(path).intact
    with pytest.raises(PairingError, match="has no counterpart"):
        plan(here, replace(SETTINGS, paired=True))


@pytest.mark.parametrize("folders", ["trainA testA testB", "trainB testA testB"])
def test_train_needs_a_folder_of_each_stain(tmp_path: Path, folders: str) -> None:
    data = write_tiles(tmp_path, {folder: ["a_0_0"] for folder in folders.split()})
    with pytest.raises(PairingError, match=r"has no counterpart: there is no folder of .* of train"):
        plan(data)


@pytest.mark.parametrize("setting", ["registration=true", "max_shift=3", "min_confidence=0.5", "align=shift"])
def test_registration_needs_pairs(setting: str) -> None:
    with pytest.raises(SettingsError, match="paired = false with registration"):
        load(PrepSettings, None, ["paired=false", setting])


def test_names_that_are_one_on_some_disks_are_refused_within_a_stain(tmp_path: Path) -> None:
    data = write_tiles(tmp_path, {"h": ["A_0_0", "b_0_0"], "i": ["a_0_0", "B_0_0"]})
    settings = replace(SETTINGS, split=SplitRule.BY_SLIDE)
    assert len(find_pairs(settings, Data(he=data / "h", ihc=data / "i")).candidates) == 4
    write_tiles(tmp_path, {"h": ["a_0_0"]})
    if len([*(tmp_path / "h").iterdir()]) == 3:  # the disk tells upper and lower case apart
        with pytest.raises(PairingError, match="of the train he tiles"):
            find_pairs(replace(settings, test_fraction=0), Data(he=data / "h", ihc=data / "i"))


def lone(stain: Stain, name: str) -> Pair:
    he, ihc = (name if stain is one else "" for one in Stain)
    digests = [NO_DIGEST if not of else "1" * 64 for of in (he, ihc)]
    slide = {Stain.HE: "s", Stain.IHC: "t"}[stain]
    return Pair(
        id=name, slide=slide if he else "", he=he, ihc=ihc, he_digest=digests[0], ihc_digest=digests[1],
        ihc_id=ihc, ihc_slide=slide if ihc else "",
    )  # fmt: skip


@pytest.mark.parametrize("he", [["a"], ["ihc/x"], ["IHC/x", "ihc_/x"], ["ihc"], []])
def test_rows_are_cut_into_the_tiles_that_they_were_made_of_and_no_name_clashes(he: list[str]) -> None:
    tiles = [*(lone(Stain.HE, name) for name in he), *(lone(Stain.IHC, name) for name in ("x", "y", "z"))]
    rows = make_rows(tiles)
    names = [row.id.casefold() for row in rows]
    assert len(rows) == 3
    assert len(set(names)) == 3
    assert not [name for name in names if any(other.startswith(f"{name}/") for other in names)]
    key = lambda tile: (tile.he, tile.ihc)  # noqa: E731
    assert sorted((tile for row in rows for tile in tiles_of_row(row)), key=key) == sorted(tiles, key=key)


def test_files_of_squares_are_those_of_each_tile_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, words = CommandLine("prep", app, monkeypatch, capsys), ["--data", data, "--set", "paired=false"]
    done = run("cut", *words, "--set", "tile_side=32", "--out", tmp_path / "cut", "--threads", "1")
    assert done.code == 0, done.err
    assert {folder: len([*(tmp_path / "cut" / folder).iterdir()]) for folder in CYCLEGAN} == {
        folder: 4 * len(names) for folder, names in CYCLEGAN.items()
    }
    assert "--set paired=false" in done.out + done.err


def test_the_shift_of_unpaired_tiles_is_not_measured(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = CommandLine("prep", app, monkeypatch, capsys)
    done = run("register", "--data", data, "--set", "paired=false", "--out", tmp_path / "report")
    assert done.code == 2
    assert "there are no pairs" in done.err
    assert not (tmp_path / "report").exists()


def test_the_commands_of_the_guide_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As printed, on small tiles; the command that trains is one that `train` understands."""
    guide = (ROOT / "prep" / "README.md").read_text(encoding="utf-8").split("## Unpaired folders")[1].split("## ")[0]
    one, two = re.findall(r"python -m prep (build .*)", guide)
    shutil.copytree(data, tmp_path / "tiles" / "unpaired")
    for folder, stain in (("trainA", "HE"), ("trainB", "ER")):
        shutil.copytree(data / folder, tmp_path / "slides" / stain)
    monkeypatch.chdir(tmp_path)
    run, small = CommandLine("prep", app, monkeypatch, capsys), ("--set", "view_side=32", "--set", "upscaler=lanczos")
    for command in (one, two):
        done = run(*command.split(), *small)
        assert done.code == 0, done.err
    assert not Store.open(tmp_path / "data/unpaired.zarr").manifest.paired
    (train,) = re.findall(r"python -m train (fit .*)", guide)
    refused = CommandLine("train", train_app, monkeypatch, capsys)(*train.split(), "--set", "data.batch=0")
    assert (refused.code, "data.batch = 0" in refused.err) == (2, True)


def test_the_command_line_plans_and_builds(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = CommandLine("prep", app, monkeypatch, capsys)
    words = ["--data", data, "--set", "paired=false", "--set", "view_side=32", "--set", "upscaler=lanczos"]
    planned = run("plan", *words)
    assert (planned.code, "unpaired  8 H&E and 3 IHC in train" in planned.out) == (0, True)
    built = run("build", *words, "--store", tmp_path / "u.zarr", "--threads", "1")
    assert built.code == 0, built.err
    again = run("build", *[word for word in words if word != "paired=false"][:-5], "--store", tmp_path / "u.zarr",
                "--set", "view_side=32", "--set", "upscaler=lanczos")  # fmt: skip
    assert again.code == 2
    assert "paired" in again.err
