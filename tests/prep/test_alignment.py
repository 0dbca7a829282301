"""`prep register`: every pair is measured, listed, counted and the worst are drawn; nothing is asked of a split."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from prep.__main__ import app
from prep.alignment.measured import Alignment, Measured
from prep.alignment.report import describe, markdown, tree
from prep.alignment.sheet import checkerboard, likeness, overlay
from prep.settings import PrepSettings, SplitRule
from prep.tiles.discovery import Data, find_pairs
from store.images import read_picture, write_png
from store.pairs.table import Pair, Registration, Skipped
from store.schema import Split
from tests.support.apart import cut_apart, drawn_field
from tests.support.command_line import CommandLine
from tests.support.tiles import digest, lanczos, run

SIDE = 128
APART: Mapping[str, tuple[int, int]] = {"a_0_0": (0, 0), "a_0_1": (9, -12), "b_0_0": (-4, 3), "c_0_0": (2, 0)}


@pytest.fixture
def prep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine("prep", app, monkeypatch, capsys)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pairs with known shifts in folders HE and IHC, and an H&E tile without a counterpart."""
    folder = tmp_path / "set"
    for seed, (name, shift) in enumerate(APART.items()):
        for stain, picture in zip(("HE", "IHC"), cut_apart(drawn_field(208, seed), SIDE, shift), strict=True):
            write_png(folder / stain / f"{name}.png", picture)
    write_png(folder / "HE" / "d_0_0.png", drawn_field(208)[0][:SIDE, :SIDE])
    return folder


def test_every_pair_is_measured_listed_and_the_worst_are_drawn(data: Path, tmp_path: Path, prep: CommandLine) -> None:
    """A set without test pairs is measured too; what has no counterpart is named."""
    out = tmp_path / "out"
    done = prep("register", "--data", data, "--out", out)
    assert done.code == 0
    assert "worst 15.0 px (a_0_1: +9 down, -12 right)" in " ".join(done.out.split())
    assert "1 not measured, the first: train 'd_0_0': no IHC tile" in " ".join(done.out.split())
    with (out / "pairs.csv").open(encoding="utf-8") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    for name, (down, right) in APART.items():
        row = rows[name]
        assert max(abs(int(row["down"]) - down), abs(int(row["right"]) - right)) <= 1
        assert float(row["confidence"]) >= 0.5
        assert (row["he"], row["ihc"]) == (f"HE/{name}.png", f"IHC/{name}.png")
        assert (row["slide"], row["split"]) == (name[0], "train")
    document = json.loads((out / "registration.json").read_text(encoding="utf-8"))
    assert document["all"]["worst"] == "a_0_1"
    assert document["all"]["within_px"] == {"1": 1, "2": 2, "5": 3, "10": 3, "20": 4}
    assert set(document["slides"]) == {"a", "b", "c"}
    report = (out / "registration.md").read_text(encoding="utf-8")
    assert "| a_0_1 | train | a | 15.0 | +9 | -12 |" in report
    assert " 10 to 20 px       1 ####" in report
    sheet = read_picture(out / "worst.png")
    assert sheet.shape[0] > 4 * 256
    assert sheet.shape[1] > 6 * 256


def test_the_table_can_be_given_to_pairs_from(data: Path, tmp_path: Path, prep: CommandLine) -> None:
    assert prep("register", "--data", data, "--out", tmp_path / "out").code == 0
    table = tmp_path / "out" / "pairs.csv"
    settings = PrepSettings(split=SplitRule.BY_SLIDE)
    named = find_pairs(settings, Data(he=data, ihc=data, table=table))
    found = find_pairs(settings, Data(he=data, ihc=data))
    assert named.candidates == found.candidates


def test_tiles_that_were_cut_with_their_shift_have_none_left(data: Path, tmp_path: Path, prep: CommandLine) -> None:
    (data / "HE" / "d_0_0.png").unlink()
    cut = ("--set", "align=shift", "--set", "tile_side=96", "--set", "edge=shift", "--set", "slide_pattern=^(.)")
    assert prep("cut", "--data", data, "--out", tmp_path / "cut", *cut).code == 0
    assert prep("register", "--data", tmp_path / "cut", "--out", tmp_path / "out").code == 0
    with (tmp_path / "out" / "pairs.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if float(row["confidence"]) >= 0.5]
    assert len(rows) >= 4
    assert all(max(abs(int(row["down"])), abs(int(row["right"]))) <= 1 for row in rows)


def test_the_files_do_not_depend_on_the_number_of_threads(data: Path, tmp_path: Path, prep: CommandLine) -> None:
    for threads in ("1", "3"):
        assert prep("register", "--data", data, "--out", tmp_path / threads, "--threads", threads).code == 0
    assert digest(tmp_path / "1") == digest(tmp_path / "3")


def test_squares_are_measured_one_by_one(data: Path, tmp_path: Path, prep: CommandLine) -> None:
    out = tmp_path / "out"
    assert prep("register", "--data", data, "--out", out, "--set", "tile_side=64").code == 0
    assert not (out / "pairs.csv").exists()
    with (out / "squares.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * len(APART)
    assert {(row["top"], row["left"], row["side"]) for row in rows} == {
        (top, left, "64") for top in ("0", "64") for left in ("0", "64")
    }


def test_a_folder_in_a_store_is_refused_before_anything_is_read(data: Path, tmp_path: Path, prep: CommandLine) -> None:
    (data / "HE" / "d_0_0.png").unlink()
    run(lanczos(split=SplitRule.BY_SLIDE), data, tmp_path / "s.zarr")
    done = prep("register", "--data", data, "--out", tmp_path / "s.zarr" / "x")
    assert done.code == 2
    assert "is a store or inside one" in done.err


def test_unpaired_tiles_are_refused(data: Path, tmp_path: Path, prep: CommandLine) -> None:
    done = prep("register", "--data", data, "--out", tmp_path / "out", "--set", "paired=false")
    assert done.code == 2
    assert "paired = false with registration" in done.err


def test_data_without_a_pair_that_can_be_read_are_refused(tmp_path: Path, prep: CommandLine) -> None:
    for stain in ("HE", "IHC"):
        (tmp_path / "set" / stain).mkdir(parents=True)
        (tmp_path / "set" / stain / "a.png").write_bytes(b"nothing")
    done = prep("register", "--data", tmp_path / "set", "--out", tmp_path / "out")
    assert done.code == 2
    assert "no pair can be measured: train 'a'" in done.err


def alignment(*percents: int, synthetic: bool = False) -> Alignment:
    """Pairs named by their number, each one px further apart than the one before."""
    tiles = []
    for number, percent in enumerate(percents):
        estimate = Registration(down=number, right=0, percent=percent)
        pair = Pair(id=f"p{number:02d}", slide="s", he="h", ihc="i", he_digest="", ihc_digest="", registration=estimate)
        tiles.append(Measured(split=Split.TRAIN, side=64, pair=pair, registration=estimate))
    bad = Skipped(id="x", split=Split.TRAIN, he="x.png", ihc="", reason="no IHC tile")
    return Alignment(name="set", synthetic=synthetic, read_as="folders", tiles=tuple(tiles), bad=(bad,))


def test_the_worst_are_those_furthest_apart_and_then_the_least_certain() -> None:
    few = alignment(90, 10, 90, 20)
    assert [tile.pair.id for tile in few.worst()] == ["p02", "p00", "p01", "p03"]
    many = alignment(*[90] * 12, 0)
    assert [tile.pair.id for tile in many.worst()] == [f"p{number:02d}" for number in range(11, 1, -1)]


def test_a_set_without_a_trusted_estimate_is_reported_in_words() -> None:
    found = alignment(10, 10)
    assert "no estimate can be trusted" in describe(found)
    assert "| all | 2 | 2 | - | - | - |" in markdown(found)
    assert tree(found)["all"]["median_px"] is None
    json.dumps(tree(found), allow_nan=False)


def test_a_report_of_drawn_pictures_says_so() -> None:
    assert "SYNTHETIC" in markdown(alignment(90, synthetic=True))
    assert "SYNTHETIC" not in markdown(alignment(90))


def test_pictures_that_fit_have_dark_overlays_and_unbroken_checkerboards() -> None:
    he, ihc = drawn_field(208)
    assert likeness(he, ihc) > likeness(he[:-20], ihc[20:])
    assert np.array_equal(checkerboard(he, he), he)
    mixed = checkerboard(he, ihc)
    assert np.array_equal(mixed[:30, :30], he[:30, :30])
    assert np.array_equal(mixed[:30, 36:66], ihc[:30, 36:66])
    same = overlay(he, he)
    assert np.array_equal(same[..., 0], same[..., 1])  # grey: neither green nor magenta
    glass = np.full_like(he, 255)
    only_he = overlay(he, glass)
    assert (only_he[..., 1] <= only_he[..., 0]).all()
    assert likeness(he, glass) == 0
