"""Pairs are left out because of their measured shift, and the IHC is moved by it; a store records both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from prep.__main__ import app
from prep.build.describe import describe_plan
from prep.build.plan import make_plan
from prep.build.run import repair
from prep.build.runner import Processes
from prep.registration.estimate import register
from prep.registration.matching import Matching, common_side, move_square, move_whole
from prep.settings import Align, PrepSettings, SplitRule, recorded
from store.images import PictureU8, write_png
from store.pairs.table import Pair, Registration
from store.reader import Store
from store.schema import Box, PairingError, SchemaError, SettingsError, Split, Stain
from store.verify import verify
from tests.support.apart import cut_apart, drawn_field
from tests.support.command_line import CommandLine
from tests.support.tiles import digest, lanczos, run, single

SIDE = 128
FIELD = 208
Shift = tuple[int, int]
APART: Mapping[str, Shift] = {"s1_0_0": (0, 0), "s1_0_1": (5, -3), "s2_0_0": (-9, 6), "s2_0_1": (20, 20)}
BLANK = "s3_0_0"
GLASS = 240


def glass(seed: int) -> PictureU8:
    """Empty glass, u8 [SIDE,SIDE,3]."""
    noise = np.random.default_rng(seed).normal(GLASS, 2, (SIDE, SIDE, 3))
    return noise.clip(0, 255).astype(np.uint8)


def write(data: Path, name: str, pair: tuple[PictureU8, PictureU8], part: str = "train") -> None:
    """A pair in MIST's layout."""
    for letter, picture in zip("AB", pair, strict=True):
        (data / f"{part}{letter}").mkdir(parents=True, exist_ok=True)
        write_png(data / f"{part}{letter}" / f"{name}.png", picture)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train pairs with known shifts and one of empty glass; a test pair without a shift."""
    folder = tmp_path_factory.mktemp("apart") / "set"
    for seed, (name, shift) in enumerate(APART.items()):
        write(folder, name, cut_apart(drawn_field(FIELD, seed), SIDE, shift))
    write(folder, BLANK, (glass(1), glass(2)))
    write(folder, "s9_0_0", cut_apart(drawn_field(FIELD, 9), SIDE, (1, 2)), "test")
    return folder


def pairs_of(store: Path) -> dict[str, Pair]:
    opened = Store.open(store)
    return {pair.id: pair for split in opened.manifest.counts for pair in opened.pairs(split)}


def test_shifts_are_written_to_the_pair_table(data: Path, tmp_path: Path) -> None:
    run(lanczos(registration=True), data, tmp_path / "s.zarr")
    found = pairs_of(tmp_path / "s.zarr")
    for name, (down, right) in APART.items():
        estimate = found[name].registration
        assert estimate is not None
        assert max(abs(estimate.down - down), abs(estimate.right - right)) <= 1, name
        assert estimate.percent >= 90
        assert found[name].he_box is None
    blank = found[BLANK].registration
    assert blank is not None
    assert blank.percent < 50
    manifest = Store.open(tmp_path / "s.zarr").manifest
    assert manifest.settings["registration"] is True
    assert {"scipy", "scikit-image"} <= manifest.software.keys()
    assert verify(tmp_path / "s.zarr").intact


def test_pairs_too_far_apart_are_left_out_by_name_and_do_not_stop_the_build(data: Path, tmp_path: Path) -> None:
    run(lanczos(max_shift=12), data, tmp_path / "s.zarr")  # without skip_bad
    store = Store.open(tmp_path / "s.zarr")
    (left_out,) = store.skipped()
    assert left_out.id == "s2_0_1"
    assert "px apart: +20 down, +20 right, confidence" in left_out.reason
    assert "max_shift = 12 px" in left_out.reason
    assert {pair.id for pair in store.pairs(Split.TRAIN)} == {*APART, BLANK} - {"s2_0_1"}


def test_uncertain_pairs_are_left_out_by_name(data: Path, tmp_path: Path) -> None:
    run(lanczos(min_confidence=0.5), data, tmp_path / "s.zarr")
    (left_out,) = Store.open(tmp_path / "s.zarr").skipped()
    assert left_out.id == BLANK
    assert "uncertain" in left_out.reason
    assert "min_confidence = 0.5" in left_out.reason


def test_rules_that_leave_no_pair_of_train_are_refused_by_name(tmp_path: Path) -> None:
    pair = cut_apart(drawn_field(FIELD), SIDE, (9, 0))
    write(tmp_path / "set", "s1_0_0", pair)
    write(tmp_path / "set", "s9_0_0", cut_apart(drawn_field(FIELD, 9), SIDE, (0, 0)), "test")
    with pytest.raises(PairingError, match=r"settings leave 1 out, for example 's1_0_0' .*max_shift = 5 px.*larger"):
        make_plan(lanczos(max_shift=5), single(tmp_path / "set"), threads=1)


def test_bad_pairs_still_stop_a_build_that_leaves_pairs_out(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "set"
    for name, shift in APART.items():
        write(other, name, cut_apart(drawn_field(FIELD), SIDE, shift))
    write(other, "s9_0_0", cut_apart(drawn_field(FIELD, 9), SIDE, (1, 2)), "test")
    (other / "trainB" / "s1_0_0.png").write_bytes(b"no picture")
    with pytest.raises(PairingError, match=r"^1 bad pair: 1 not usable: 's1_0_0'"):
        run(lanczos(max_shift=12), other, tmp_path / "s.zarr")
    run(lanczos(max_shift=12), other, tmp_path / "s.zarr", skip_bad=True)
    assert [one.id for one in Store.open(tmp_path / "s.zarr").skipped()] == ["s1_0_0", "s2_0_1"]


def test_aligned_tiles_show_the_same_place(data: Path, tmp_path: Path) -> None:
    """Whole pictures become the largest common square that fits the recipe; what is uncertain is not moved."""
    run(lanczos(align=Align.SHIFT), data, tmp_path / "s.zarr")
    store, found = Store.open(tmp_path / "s.zarr"), pairs_of(tmp_path / "s.zarr")
    assert store.manifest.tile_side == 104  # 128 - 20, a multiple of 8
    for split in store.manifest.counts:
        for row, pair in enumerate(store.pairs(split)):
            assert pair.he_box is not None
            assert pair.ihc_box is not None
            assert pair.registration is not None
            moved = (pair.ihc_box.top - pair.he_box.top, pair.ihc_box.left - pair.he_box.left)
            he, ihc = (store.picture(split, "tile", stain, row) for stain in Stain)
            if pair.id == BLANK:
                assert moved == (0, 0)
                assert (pair.he_box.top, pair.he_box.left) == (12, 12)
                continue
            assert moved == (pair.registration.down, pair.registration.right)
            again = register(he, ihc)
            assert max(abs(again.down), abs(again.right)) <= 1, pair.id
    original = cut_apart(drawn_field(FIELD, 3), SIDE, APART["s2_0_1"])  # the pair that has just this much in common
    box = found["s2_0_1"].he_box
    assert box is not None
    row = [pair.id for pair in store.pairs(Split.TRAIN)].index("s2_0_1")
    expected = original[0][box.top : box.top + 104, box.left : box.left + 104]
    assert np.array_equal(store.picture(Split.TRAIN, "tile", Stain.HE, row), expected)
    assert verify(tmp_path / "s.zarr").intact


def test_an_aligned_store_is_repaired_to_the_same_bytes(data: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    run(lanczos(align=Align.SHIFT, max_shift=12), data, store)
    before = digest(store)
    shard = next(name for name in before if name.startswith("train/tile/ihc/c/"))
    store.joinpath("train/tile/ihc/c").chmod(0o755)
    for part in (store / shard).parents:
        part.chmod(0o755)
    (store / shard).unlink()
    repair(None, single(data), store, processes=Processes(threads=1))
    assert digest(store) == before


def test_the_limit_of_the_shift_keeps_the_tiles_large(data: Path) -> None:
    plan = make_plan(lanczos(align=Align.SHIFT, max_shift=12), single(data), threads=2)
    assert plan.manifest.tile_side == 112  # 128 - 9, a multiple of 8
    text = " ".join(describe_plan(plan).split())
    assert "shifts median 4.0 px, worst 10.8 px (s2_0_0: -9 down, +6 right)" in text
    left = "with the IHC moved, estimate less move: median 0.0 px, worst 0.0 px (s9_0_0: +0 down, +0 right)"
    assert f"{left}; 1 of 5 pairs with" in text
    assert "the IHC of 3 was moved by its estimate, and what is left is not measured again" in text
    assert "left out 1 pair, because of settings: train 's2_0_1': its pictures are 28.3 px apart" in text
    assert any("'s2_0_0' by 9 px" in note for note in plan.notes)


def test_shifts_that_leave_no_tile_are_refused_with_the_pairs_that_cause_it(data: Path) -> None:
    with pytest.raises(SchemaError, match=r"leaves 1\d\d px of tiles of 128 px.*'s2_0_1' by 20 px.*max_shift=20"):
        make_plan(lanczos(align=Align.SHIFT, view_side=120), single(data), threads=2)


def test_squares_are_moved_one_by_one_and_left_out_where_they_leave_the_picture(tmp_path: Path) -> None:
    he, ihc = drawn_field(320)
    pair = he[32:288, 32:288], ihc[32 - 6 : 288 - 6, 32 + 10 : 288 + 10]  # 6 down, 10 to the left
    write(tmp_path / "set", "s1", pair)
    write(tmp_path / "set", "s9", pair, "test")
    settings = lanczos(tile_side=SIDE, align=Align.SHIFT, slide_pattern=".+", allow_leakage=True)
    run(settings, tmp_path / "set", tmp_path / "s.zarr")
    store = Store.open(tmp_path / "s.zarr")
    (kept,) = store.pairs(Split.TRAIN)  # of four: two would leave below, two at the left
    assert (kept.id, kept.he_box) == ("s1_y0_x128", Box(top=0, left=128, side=SIDE))
    assert kept.ihc_box is not None
    assert (kept.ihc_box.top, kept.ihc_box.left) == (6, 118)
    left_out = store.skipped()
    assert len(left_out) == 6  # three of train, three of test
    assert {one.id for one in left_out} == {"s1_y0_x0", "s1_y128_x0", "s1_y128_x128", *(
        f"s9_{place}" for place in ("y0_x0", "y128_x0", "y128_x128")
    )}  # fmt: skip
    assert all("leaves the picture" in one.reason for one in left_out)
    again = register(*(store.picture(Split.TRAIN, "tile", stain, 0) for stain in Stain))
    assert max(abs(again.down), abs(again.right)) <= 1


def test_the_plan_says_how_far_pairs_are_apart_and_what_rules_would_leave_out(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prep = CommandLine("prep", app, monkeypatch, capsys)
    words = ["plan", "--data", str(data), "--set", "upscaler=lanczos", "--set", "view_side=64"]
    plain, measured = prep(*words), prep(*words, "--registration")
    assert "shifts" not in plain.out
    text = " ".join(measured.out.split())
    assert "shifts median" in text
    assert "worst 28.3 px (s2_0_1: +20 down, +20 right); 1 of 6 pairs with a confidence below 0.5" in text
    assert "max_shift=5 would leave out 3 pairs, 10: 2, 20: 1; min_confidence=0.5: 1" in text


def test_settings_about_shifts_imply_that_they_are_measured_and_are_recorded() -> None:
    assert not PrepSettings().registers
    for changed in ({"max_shift": 5}, {"min_confidence": 0.1}, {"align": Align.SHIFT}, {"registration": True}):
        settings = PrepSettings(**changed)
        assert settings.registers
        assert recorded(settings)["registration"] is True
    assert not {"registration", "max_shift", "min_confidence", "align"} & recorded(PrepSettings()).keys()
    for wrong in ({"max_shift": -1}, {"min_confidence": 1.5}):
        with pytest.raises(SettingsError):
            PrepSettings(**wrong)


def test_a_store_that_measures_nothing_has_no_such_columns(data: Path, tmp_path: Path) -> None:
    run(lanczos(), data, tmp_path / "s.zarr")
    assert all(pair.registration is None and pair.he_box is None for pair in pairs_of(tmp_path / "s.zarr").values())
    assert not (tmp_path / "s.zarr" / "train" / "pair" / "shift").exists()


def matching(**changes: object) -> Matching:
    return Matching(**{"measured": True, "max_shift": 0, "min_confidence": 0.0, "align": Align.SHIFT, **changes})  # type: ignore[arg-type] # a test names its changes


def measured(down: int, right: int, percent: int = 90, box: Box | None = None) -> Pair:
    estimate = Registration(down=down, right=right, percent=percent)
    return Pair(
        id="a", slide="s", he="h", ihc="i", he_digest="", ihc_digest="", he_box=box, ihc_box=box, registration=estimate
    )


def test_an_estimate_that_cannot_be_trusted_moves_nothing_and_is_not_too_far() -> None:
    doubtful = measured(90, 0, percent=49)
    assert doubtful.registration is not None
    assert matching(max_shift=5).fault(doubtful.registration) == ""
    assert matching().shift(doubtful) == (0, 0)
    assert matching(min_confidence=0.3).shift(doubtful) == (90, 0)


@pytest.mark.parametrize("shift", [(0, 0), (5, -8), (-8, 8), (7, 0)])
def test_squares_of_whole_tiles_lie_inside_both_pictures(shift: Shift) -> None:
    square = common_side(64, [shift, (8, 8)])
    moved = move_whole(measured(*shift), shift, 64, square)
    assert moved.he_box is not None
    assert moved.ihc_box is not None
    assert square == 56
    for box in (moved.he_box, moved.ihc_box):
        assert 0 <= box.top <= 64 - square
        assert 0 <= box.left <= 64 - square
    assert (moved.ihc_box.top - moved.he_box.top, moved.ihc_box.left - moved.he_box.left) == shift


def test_a_square_is_moved_up_to_the_edge_and_not_beyond() -> None:
    box = Box(top=10, left=10, side=20)
    assert isinstance(move_square(measured(10, -10, box=box), matching(), 40, 40), Pair)
    assert isinstance(move_square(measured(11, 0, box=box), matching(), 40, 40), str)
    assert isinstance(move_square(measured(0, -11, box=box), matching(), 40, 40), str)


def test_by_slide_splits_are_measured_too(data: Path) -> None:
    plan = make_plan(lanczos(registration=True, split=SplitRule.BY_SLIDE), single(data), threads=1)
    assert all(pair.registration for pairs in plan.table.pairs.values() for pair in pairs)
