"""`prep cut` makes files of the tiles that a store has of the same pictures."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import prep.cutting.files as room
from prep.__main__ import app
from prep.settings import Edge, Layout
from prep.tiles.decoded import Decoded, PairU8
from prep.tiles.layouts import Sources
from prep.tiles.reading import read_pair
from store.images import PictureU8, read_picture, write_png
from store.pairs.table import Pair
from store.reader import Store
from store.schema import Split
from tests.support.command_line import CommandLine
from tests.support.disks import contents
from tests.support.stores import draw_tile

SIDE = 64
LANCZOS = ("--set", "upscaler=lanczos", "--set", "view_side=32", "--set", "margin=4", "--set", "unit=4")
CUT = ("--set", f"tile_side={SIDE}")


@pytest.fixture
def prep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine("prep", app, monkeypatch, capsys)


def draw(key: int, index: int, height: int, width: int) -> PictureU8:
    return draw_tile(max(height, width), key, index)[:height, :width]


def mist(data: Path) -> tuple[str, ...]:
    """Regions under the names of MIST: three slides, one held out."""
    for index, name in enumerate(("trainA/s1_0_0", "trainA/s1_0_1", "trainA/deep/s2_0_0", "valA/s3_4_5")):
        for key, letter in enumerate("AB"):
            write_png(data / f"{name.replace('A/', f'{letter}/')}.png", draw(key, index, 140 + index, 200))
    return ()


def three(data: Path) -> tuple[str, ...]:
    """All three splits."""
    for index, split in enumerate(("train", "val", "test")):
        for key, letter in enumerate("AB"):
            write_png(data / f"{split}{letter}" / f"s{index}_0_0.png", draw(key, index, 140, 150))
    return ()


def folders(data: Path) -> tuple[str, ...]:
    """Two folders with pictures of names that say no slide, in brackets and blanks."""
    for index, name in enumerate(("a region", "b (2)", "c+d,e")):
        for key, stain in enumerate(("HE", "IHC")):
            write_png(data / stain / f"{name}.png", draw(key, index, 100, 130 + index))
    return ("--set", "split=by-slide", "--set", "slide_pattern=.+")


def joined(data: Path) -> tuple[str, ...]:
    """Rectangular halves in one picture."""
    for index in range(3):
        write_png(data / f"p{index}_0_0.png", np.hstack([draw(key, index, 70, 140) for key in range(2)]))
    return ("--set", "split=by-slide", "--set", f"layout={Layout.SIDE_BY_SIDE}")


@pytest.mark.parametrize(
    ("write", "edge"), [(mist, Edge.SHIFT), (three, Edge.DROP), (folders, Edge.DROP), (joined, Edge.SHIFT)]
)
def test_a_store_of_the_files_is_that_of_the_pictures(
    write: Callable[[Path], tuple[str, ...]], edge: Edge, tmp_path: Path, prep: CommandLine
) -> None:
    """By the command that is printed: every picture of every view, the slides and the splits."""
    data, out = tmp_path / "data", tmp_path / "out tiles"
    words = write(data)
    cutting = (*CUT, "--set", f"edge={edge}", "--set", "stride=48")
    whole = prep("build", "--data", data, "--store", tmp_path / "whole.zarr", *LANCZOS, *cutting, *words)
    assert whole.code == 0, whole.err
    done = prep("cut", "--data", data, "--out", out, *cutting, *words)
    assert done.code == 0, done.err
    (printed,) = re.findall(r"prep build (--data .*) \(make: ", done.err)
    shown = [word.replace("STORE", str(tmp_path / "parts.zarr")) for word in shlex.split(printed)]
    parts = prep("build", *shown, *LANCZOS, "--set", "name=data")
    assert parts.code == 0, parts.err
    one, two = (Store.open(tmp_path / name) for name in ("whole.zarr", "parts.zarr"))
    assert one.manifest.counts == two.manifest.counts
    for split in one.manifest.counts:
        assert [pair.id for pair in one.pairs(split)] == [pair.id for pair in two.pairs(split)]
        assert [pair.slide for pair in one.pairs(split)] == [pair.slide for pair in two.pairs(split)]
    arrays = re.compile(r"(train|val|test)/(tile|x\d)/(he|ihc|box)/c/.*[0-9]")
    pixels = [
        {name: found for name, found in contents(tmp_path / f"{name}.zarr").items() if arrays.fullmatch(name)}
        for name in ("whole", "parts")
    ]
    assert len(pixels[0]) > 10
    assert pixels[0] == pixels[1]


def test_unpaired_pictures_are_cut_each_on_its_own(tmp_path: Path, prep: CommandLine) -> None:
    """Other names and other numbers; by the command that is printed, the pictures of the stores are the same."""
    data, out = tmp_path / "data", tmp_path / "out"
    for key, (stain, count) in enumerate((("HE", 3), ("IHC", 4))):
        for index in range(count):
            write_png(data / stain / f"{stain.lower()}{index}_0_0.png", draw(key, index, 100, 130 + index))
    words = ("--set", "paired=false", "--set", "split=by-slide")
    whole = prep("build", "--data", data, "--store", tmp_path / "whole.zarr", *LANCZOS, *CUT, *words)
    assert whole.code == 0, whole.err
    done = prep("cut", "--data", data, "--out", out, *CUT, *words)
    assert (done.code, len([*out.rglob("HE/*.png")]), len([*out.rglob("IHC/*.png")])) == (0, 6, 8)
    (printed,) = re.findall(r"prep build (--data .*) \(make: ", done.err)
    shown = [word.replace("STORE", str(tmp_path / "parts.zarr")) for word in shlex.split(printed)]
    parts = prep("build", *shown, *LANCZOS, "--set", "name=data")
    assert parts.code == 0, parts.err
    one, two = (Store.open(tmp_path / name) for name in ("whole.zarr", "parts.zarr"))
    assert (one.manifest.counts, one.manifest.tiles) == (two.manifest.counts, two.manifest.tiles)
    tiles = re.compile(r"(train|val|test)/tile/(he|ihc)/c/.*[0-9]")
    found = [
        {name: data for name, data in contents(tmp_path / f"{name}.zarr").items() if tiles.fullmatch(name)}
        for name in ("whole", "parts")
    ]
    assert len(found[0]) > 2
    assert found[0] == found[1]


def test_slides_of_a_table_that_names_do_not_say_are_missed_aloud(tmp_path: Path, prep: CommandLine) -> None:
    folders(tmp_path / "data")
    rows = [
        f'"HE/{n}.png","IHC/{n}.png",{slide}' for n, slide in (("a region", "s1"), ("b (2)", "s1"), ("c+d,e", "s2"))
    ]
    (tmp_path / "pairs.csv").write_text("\n".join(["he,ihc,slide", *rows]))
    words = ("cut", "--data", tmp_path / "data", "--out", tmp_path / "out", *CUT)
    done = prep(*words, "--pairs-from", tmp_path / "pairs.csv")
    assert (done.code, "because the names do not say which pictures are of one slide" in done.err) == (0, True)
    assert "names do not say" not in prep(*words, "--set", "slide_pattern=.+").err


def test_files_are_lossless_and_a_cut_that_was_stopped_goes_on(
    tmp_path: Path, prep: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    mist(data)
    words = ("cut", "--data", data, "--out", out, *CUT)
    monkeypatch.setattr(room, "TOGETHER", 3)

    def stops(sources: Sources, pair: Pair, decoded: Decoded) -> PairU8:
        if pair.id == "s1_0_0_y64_x0":
            signal.raise_signal(signal.SIGINT)
        return read_pair(sources, pair, decoded)

    with monkeypatch.context() as patch:
        patch.setattr(room, "read_pair", stops)
        stopped = prep(*words, "--threads", "1")
    assert (stopped.code, "of 24 squares are in" in stopped.err) == (3, True)
    before = contents(out)
    assert 0 < len([name for name in before if name.endswith(".png")]) < 48
    stamps = {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}
    done = prep(*words)
    assert done.code == 0, done.err
    assert f"{48 - len(stamps)} new tiles are in {out}, and {len(stamps)} that were there" in done.err
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    assert not [name for name in contents(out) if "partial" in name]
    for file in out.rglob("*.png"):
        name, _, place = file.stem.rpartition("_y")
        top, left = (int(number) for number in place.split("_x"))
        folder = file.parent.relative_to(out).as_posix().replace("test", "val")
        whole = read_picture(data / folder / f"{name}.png")
        np.testing.assert_array_equal(read_picture(file), whole[top : top + SIDE, left : left + SIDE])
    assert "0 new tiles" in prep(*words).err


def test_what_lies_in_the_way_is_never_written_over(tmp_path: Path, prep: CommandLine) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    mist(data)
    words = ("cut", "--data", data, "--out", out, *CUT)
    assert prep(*words).code == 0
    tile = out / "trainA" / "s1_0_0_y0_x64.png"
    sound = tile.read_bytes()
    for spoilt, said in (
        (sound[:-20], "truncated PNG, it breaks off"),
        ((out / "trainA" / "s1_0_0_y0_x0.png").read_bytes(), "is there and holds other pixels than this cut gives"),
    ):
        tile.write_bytes(spoilt)
        done = prep(*words)
        assert (done.code, said in done.err, "remove it and run the command again" in done.err) == (2, True, True)
        assert tile.read_bytes() == spoilt
    tile.write_bytes(sound)
    other = prep(*words[:-1], "tile_side=48")
    assert (other.code, "file(s) that this cut does not make, for example" in other.err) == (2, True)
    for inside in (data, data / "tiles"):
        done = prep("cut", "--data", data, "--out", inside, *CUT)
        assert (done.code, "would be taken for pictures" in done.err) == (2, True)


def test_any_side_is_cut_and_what_a_store_would_refuse_is_said(tmp_path: Path, prep: CommandLine) -> None:
    mist(tmp_path / "data")
    words = (
        "cut",
        "--data",
        tmp_path / "data",
        "--out",
        tmp_path / "out",
        "--set",
        "tile_side=60",
        "--set",
        "view_side=32",
    )
    done = prep(*words)
    assert done.code == 0
    assert "note: a store with these settings refuses such tiles: tile side 60 px does not divide by 8" in done.err
    assert read_picture(tmp_path / "out" / "trainA" / "s1_0_0_y60_x120.png").shape == (60, 60, 3)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ((), False),
        (("split=by-slide", 'test_slides=["s1"]'), True),
        (("val_fraction=0.5",), True),
        (("seed=1",), False),
    ],
)
def test_a_split_that_is_asked_for_is_said_to_be_of_the_build(
    tmp_path: Path, prep: CommandLine, settings: tuple[str, ...], told: bool
) -> None:
    mist(tmp_path / "data")
    given = [word for setting in settings for word in ("--set", setting)]
    done = prep("cut", "--data", tmp_path / "data", "--out", tmp_path / "out", *CUT, *given)
    assert done.code == 0
    assert ("note: the files keep the split that the data come with" in done.err) is told


def test_bad_pictures_stop_a_cut_before_it_writes_or_are_listed(tmp_path: Path, prep: CommandLine) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    mist(data)
    write_png(data / "trainA" / "s9_0_0.png", draw(0, 9, 30, 90))
    write_png(data / "trainB" / "s9_0_0.png", draw(1, 9, 30, 90))
    (data / "trainA" / "s8_0_0.png").write_bytes(b"no picture")
    words = ("cut", "--data", data, "--out", out, *CUT)
    done = prep(*words)
    assert (done.code, out.exists()) == (2, False)
    assert "is 90 x 30 px, smaller than a square of tile_side = 64 px" in done.err
    assert "1 H&E without IHC" in done.err
    done = prep(*words, "--skip-bad")
    assert (done.code, done.err.count("skipped: train 's")) == (0, 2)
    assert prep("cut", "--data", data, "--out", out).err.endswith(
        "prep cut needs the side of the squares: --set tile_side=512 (make: SET=tile_side=512)\n"
    )
    nothing = prep(*words[:-1], "tile_side=512", "--skip-bad")
    assert (nothing.code, "no square was cut: train " in nothing.err) == (2, True)


def test_the_command_that_is_printed_keeps_what_was_set_for_the_store(tmp_path: Path, prep: CommandLine) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    words = (*folders(data), "--set", 'test_slides=["b (2)"]', "--set", "stain=ER", "--set", "mpp=0.5")
    done = prep("cut", "--data", data, "--out", out, *CUT, *LANCZOS, *words)
    assert done.code == 0, done.err
    (printed,) = re.findall(r"prep build (--data .*) \(make: ", done.err)
    built = prep("build", *(word.replace("STORE", str(tmp_path / "s.zarr")) for word in shlex.split(printed)))
    assert built.code == 0, built.err
    store = Store.open(tmp_path / "s.zarr")
    assert {pair.slide for pair in store.pairs(Split.TEST)} == {"b (2)"}
    assert (store.manifest.stain, store.manifest.mpp["tile"], store.manifest.upscaler.name) == ("ER", 0.5, "lanczos")
