"""Builds: what is written, and what happens when a build is stopped or refused."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from prep.build.plan import BuildPlan
from prep.build.preflight import check_free_space
from prep.build.run import build
from prep.build.runner import Processes
from prep.build.units import Loaded, enlarge_unit
from prep.settings import PrepSettings, Recipe, SplitRule
from prep.tiles.discovery import Data
from prep.upscaling.upscale import Enlarges
from store.format.manifest import journal_of
from store.images import read_picture
from store.location.base import Location
from store.reader import Store
from store.schema import MagstainError, PairingError, SchemaError, Split, Stain, StoreError, WeightsError
from store.verify import verify
from tests.support.disks import read_only
from tests.support.stores import draw_tile
from tests.support.tiles import SIDE, TILES, command, digest, lanczos, run, single, write_tiles

ENLARGE = "prep.build.pipeline.enlarge_unit"


def test_a_store_holds_the_tiles_and_views_of_its_pairs(mist: Path, tmp_path: Path) -> None:
    run(lanczos(), mist, tmp_path / "s.zarr")
    store = Store.open(tmp_path / "s.zarr")
    assert [pair.id for pair in store.pairs(Split.TEST)] == TILES[6:]
    assert store.manifest.counts == {Split.TRAIN: 6, Split.TEST: 3}
    assert store.manifest.upscaler.name == "lanczos"
    for split, part in ((Split.TRAIN, "train"), (Split.TEST, "val")):
        for row, pair in enumerate(store.pairs(split)):
            for stain, letter in ((Stain.HE, "A"), (Stain.IHC, "B")):
                tile = read_picture(mist / f"{part}{letter}" / f"{pair.id}.png")
                np.testing.assert_array_equal(store.picture(split, "tile", stain, row), tile)
                halved = tile.reshape(64, 2, 64, 2, 3).astype(float).mean((1, 3))
                assert np.abs(store.picture(split, "x1", stain, row) - halved).max() <= 0.5
    assert verify(tmp_path / "s.zarr").intact
    assert not journal_of(tmp_path / "s.zarr").exists()


def test_a_zoomed_view_is_its_box_of_the_field_enlarged(mist: Path, tmp_path: Path) -> None:
    """Brought back down by the mean over areas, a view is the field in its box again, in both stains."""
    run(lanczos(), mist, tmp_path / "s.zarr")
    store = Store.open(tmp_path / "s.zarr")
    for zoom in (2, 4):
        for stain in Stain:
            for row in range(6):
                box = store.box(Split.TRAIN, f"x{zoom}", row)
                assert box.side == SIDE // zoom
                field = store.picture(Split.TRAIN, "x1", stain, row).astype(float)
                top, left, side = box.top // 2, box.left // 2, box.side // 2
                there = field[top : top + side, left : left + side]
                view = store.picture(Split.TRAIN, f"x{zoom}", stain, row).astype(float)
                back = view.reshape(side, zoom, side, zoom, 3).mean((1, 3))
                assert np.abs(back - there).mean() < 3


def test_two_folders_need_a_split_by_slide(mist: Path, tmp_path: Path) -> None:
    data = Data(he=mist / "trainA", ihc=mist / "trainB")
    with pytest.raises(PairingError, match="set split=by-slide"):
        build(lanczos(), data, tmp_path / "s.zarr", skip_bad=False, processes=Processes(threads=1))
    build(lanczos(split=SplitRule.BY_SLIDE), data, tmp_path / "s.zarr", skip_bad=False, processes=Processes(threads=1))
    store = Store.open(tmp_path / "s.zarr")
    slides = [{pair.slide for pair in store.pairs(split)} for split in (Split.TRAIN, Split.TEST)]
    assert [len(slide) for slide in slides] == [1, 1]
    assert not slides[0] & slides[1]
    assert store.manifest.name == "tiles"


def test_a_build_cut_off_at_any_unit_ends_byte_identical(
    mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(lanczos(), mist, tmp_path / "whole.zarr")
    expected = digest(tmp_path / "whole.zarr")

    def stops_after(units: int) -> Callable[[Loaded, Enlarges], Loaded]:
        left = iter(range(units))

        def enlarge_or_stop(loaded: Loaded, upscaler: Enlarges) -> Loaded:
            if next(left, -1) < 0:
                raise KeyboardInterrupt
            return enlarge_unit(loaded, upscaler)

        return enlarge_or_stop

    for units in range(5):
        store = tmp_path / f"cut{units}.zarr"
        monkeypatch.setattr(ENLARGE, stops_after(units))
        with pytest.raises(KeyboardInterrupt):
            run(lanczos(), mist, store)
        with pytest.raises(StoreError, match="not finished"):
            Store.open(store)
        monkeypatch.setattr(ENLARGE, enlarge_unit)
        build(lanczos(), single(mist), store, skip_bad=False, processes=Processes(threads=1))
        assert digest(store) == expected


def test_a_terminated_build_exits_with_3_and_is_resumed(tmp_path: Path) -> None:
    for part, rows in (("train", 60), ("val", 4)):
        for key, stain in enumerate("AB"):
            write_tiles(tmp_path / "tiles" / f"{part}{stain}", [f"{part}_{row}_0" for row in range(rows)], key + rows)
    words = ["build", "--data", "tiles", "--store", "s.zarr", "--set", "upscaler=lanczos", "--set", "view_side=64"]
    words += ["--set", "unit=1", "--threads", "1"]
    process = subprocess.Popen([sys.executable, "-m", "prep", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("s.zarr.journal/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 3, messages
    assert "run the same command to resume" in messages
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert verify(tmp_path / "s.zarr").intact


def test_other_settings_and_other_sources_are_refused_with_both_values(
    mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = tmp_path / "s.zarr", iter(range(9))
    monkeypatch.setattr(ENLARGE, lambda *args: enlarge_unit(*args) if next(calls) < 2 else sys.exit(9))
    with pytest.raises(SystemExit):
        run(lanczos(), mist, store)
    monkeypatch.setattr(ENLARGE, enlarge_unit)
    before = digest(store)
    with pytest.raises(StoreError, match=r"seed: 0 -> 1"):
        run(lanczos(seed=1), mist, store)
    tile = mist / "trainA" / f"{TILES[0]}.png"
    kept = tile.read_bytes()
    assert cv2.imwrite(str(tile), draw_tile(SIDE, 7))
    with pytest.raises(StoreError, match=f"sources of .* changed.*{TILES[0]}.*he_digest"):
        run(lanczos(), mist, store)
    assert digest(store) == before
    tile.write_bytes(kept)
    run(lanczos(), mist, store)
    with pytest.raises(StoreError, match=r"made with other settings .*margin: 4 -> 5"):
        run(lanczos(margin=5), mist, store)


def test_a_finished_store_stays_as_it_is(mist: Path, tmp_path: Path) -> None:
    run(lanczos(), mist, tmp_path / "s.zarr")
    before = digest(tmp_path / "s.zarr")
    shutil.rmtree(mist)
    run(lanczos(), mist, tmp_path / "s.zarr")
    assert digest(tmp_path / "s.zarr") == before


def test_without_weights_the_error_names_both_remedies(
    mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGSTAIN_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(WeightsError, match=r"make weights.*SET=upscaler=lanczos"):
        run(PrepSettings(view_side=64), mist, tmp_path / "s.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiles"]


def spoil_size(data: Path) -> None:
    cv2.imwrite(str(data / "trainB" / f"{TILES[0]}.png"), draw_tile(64, 0))


def spoil_counterpart(data: Path) -> None:
    (data / "trainB" / f"{TILES[0]}.png").unlink()


def spoil_empty(data: Path) -> None:
    (data / "trainA" / f"{TILES[0]}.png").write_bytes(b"")


def spoil_text(data: Path) -> None:
    (data / "trainA" / f"{TILES[0]}.png").write_text("not a picture")


def spoil_truncated(data: Path) -> None:
    _, encoded = cv2.imencode(".jpg", draw_tile(SIDE, 5))
    (data / "trainA" / f"{TILES[0]}.png").unlink()
    (data / "trainA" / f"{TILES[0]}.jpg").write_bytes(encoded.tobytes()[: len(encoded) // 2])


def spoil_depth(data: Path) -> None:
    cv2.imwrite(str(data / "trainA" / f"{TILES[0]}.png"), np.full((SIDE, SIDE, 3), 40_000, np.uint16))


def spoil_alpha(data: Path) -> None:
    cv2.imwrite(str(data / "trainA" / f"{TILES[0]}.png"), np.full((SIDE, SIDE, 4), 100, np.uint8))


def spoil_name(data: Path) -> None:
    shutil.copy(data / "trainA" / f"{TILES[0]}.png", data / "trainA" / f"{TILES[0]}.bmp")


SPOILT: dict[Callable[[Path], None], str] = {
    spoil_size: "H&E is 128 x 128 px, IHC is 64 x 64 px",
    spoil_counterpart: "1 bad pair: 1 H&E without IHC: 'trainA/s1_0_0.png'",
    spoil_empty: "trainA/s1_0_0.png",
    spoil_text: "trainA/s1_0_0.png",
    spoil_truncated: "trainA/s1_0_0.jpg",
    spoil_depth: "trainA/s1_0_0.png",
    spoil_alpha: "trainA/s1_0_0.png",
    spoil_name: "have the same name without suffix",
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_a_bad_pair_stops_the_build_before_anything_is_written(
    spoil: Callable[[Path], None], mist: Path, tmp_path: Path
) -> None:
    spoil(mist)
    before = digest(tmp_path)
    options = ["--set", "upscaler=lanczos", "--set", "view_side=64"]
    done = command("build", "--data", "tiles", "--store", "out/s.zarr", *options, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert SPOILT[spoil] in line
    assert "Traceback" not in done.stderr
    assert digest(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_bad_pairs_are_skipped_on_request_and_listed(
    mist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_text(mist)
    (mist / "trainB" / f"{TILES[1]}.png").unlink()
    run(lanczos(), mist, tmp_path / "s.zarr", skip_bad=True)
    store = Store.open(tmp_path / "s.zarr")
    assert store.manifest.skipped == 2
    assert store.manifest.counts[Split.TRAIN] == 4
    assert {skipped.id for skipped in store.skipped()} == {TILES[0], TILES[1]}
    messages = capsys.readouterr().err
    assert f"skipped: train '{TILES[0]}'" in messages
    assert f"skipped: train '{TILES[1]}'" in messages
    assert "2 bad pairs, skipped" in messages


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "upscale=lanczos"], "did you mean 'upscaler'"),
        (["--set", "view_side=wide"], "view_side"),
        (
            ["--set", "view_side=62", "--set", "upscaler=lanczos"],
            "view_side 62 px does not divide by zoom 4; use 60 or 64",
        ),
        (["--set", "view_side=256", "--set", "upscaler=lanczos"], "set view_side to 128 or less"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: list[str], message: str, mist: Path, tmp_path: Path) -> None:
    before = digest(tmp_path)
    done = command("build", "--data", "tiles", "--store", "s.zarr", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert digest(tmp_path) == before


def test_no_tiles_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for data, message in (("empty", "holds no folders"), ("nowhere", "no such folder")):
        done = command("build", "--data", data, "--store", "s.zarr", "--set", "upscaler=lanczos", cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty"]


@pytest.mark.parametrize("name", ["a tile", 'it\'s "one"', "Gewebe äöü 染色", "dots..in..name", "sub/folder/tile"])
def test_strange_names_survive(name: str, tmp_path: Path) -> None:
    names = [f"{name}_{row}_0" for row in range(2)] + ["other_0_0"]
    for stain in ("HE", "IHC"):
        for index, tile in enumerate(names):
            file = tmp_path / "d" / stain / f"{tile}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(cv2.imencode(".png", draw_tile(SIDE, index))[1].tobytes())
    run(lanczos(split=SplitRule.BY_SLIDE, test_fraction=0.34), tmp_path / "d", tmp_path / "s.zarr")
    store = Store.open(tmp_path / "s.zarr")
    ids = {pair.id for split in store.manifest.counts for pair in store.pairs(split)}
    assert ids == set(names)


def test_an_existing_folder_that_is_no_store_stays_as_it_is(mist: Path, tmp_path: Path) -> None:
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / "mine.txt").write_text("precious")
    with pytest.raises(StoreError, match="is no store"):
        run(lanczos(), mist, tmp_path / "s.zarr")
    assert (tmp_path / "s.zarr" / "mine.txt").read_text() == "precious"


def test_a_full_disk_is_seen_before_anything_is_written(mist: Path, small_disk: Path) -> None:
    with pytest.raises(
        StoreError, match=r"GB free, and the store needs at least another .* choose another --store \(make: STORE=\)"
    ):
        run(lanczos(), mist, small_disk / "s.zarr")
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_becomes_full_during_a_build_loses_nothing(
    mist: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prep.build.run.check_free_space", lambda *_: None)
    with pytest.raises(StoreError, match="the disk is full"):
        run(lanczos(unit=1), mist, small_disk / "s.zarr")
    assert not Path(small_disk / "s.zarr" / "train" / "unit").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    run(lanczos(unit=1), mist, small_disk / "s.zarr")
    assert verify(small_disk / "s.zarr").intact
    run(lanczos(unit=1), mist, mist.parent / "whole.zarr")
    assert digest(small_disk / "s.zarr") == digest(mist.parent / "whole.zarr")


def test_a_read_only_disk_is_refused_before_the_tiles_are_read(mist: Path, tmp_path: Path) -> None:
    spoil_text(mist)
    disk = tmp_path / "disk"
    disk.mkdir()
    with read_only(disk), pytest.raises(StoreError, match="the disk is read-only: write elsewhere"):
        run(lanczos(), mist, disk / "s.zarr")
    assert list(disk.iterdir()) == []


def test_the_tile_must_suit_the_recipe(mist: Path, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"trainA/s1_0_0.png: .*would be enlarged by 8"):
        run(lanczos(recipe=Recipe.NATIVE, view_side=256), mist, tmp_path / "s.zarr")


def test_a_picture_that_changes_between_check_and_build_is_an_error(
    mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_a_tile(location: Location, plan: BuildPlan) -> None:
        check_free_space(location, plan)
        assert cv2.imwrite(str(mist / "trainA" / f"{TILES[3]}.png"), draw_tile(SIDE, 99))

    monkeypatch.setattr("prep.build.run.check_free_space", change_a_tile)
    with pytest.raises(MagstainError, match=f"{TILES[3]}.png: changed while the store was built"):
        run(lanczos(), mist, tmp_path / "s.zarr")
