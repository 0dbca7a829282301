"""The synthetic set: the same bytes every time, in MIST's layout, with stains that depend on the tissue."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.color import rgb2hed
from skimage.registration import phase_cross_correlation

from prep.demo.draw import MARKER, DemoSettings, DemoTile, draw_demo, draw_slide, is_synthetic, marker_text, plan_files
from prep.demo.staining import Tissue, draw_tissue
from prep.demo.tissue import APPEARANCES, plan_gland
from store.disk.locks import locked
from store.images import read_picture
from store.schema import SettingsError, StoreError
from store.settings import load

SMALL = DemoSettings(slides=3, held_out=1, rows=1, columns=2, tile_side=64)


@pytest.fixture(scope="module")
def tiles() -> list[list[DemoTile]]:
    return [list(draw_slide(slide, DemoSettings())) for slide in range(3)]


def mean_dab(picture: np.ndarray) -> float:
    return float(rgb2hed(picture)[..., 2].mean())


def draw_sheet_of(score: int) -> Tissue:
    """Nine glands of one score in a square of 384 px."""
    generator = np.random.default_rng(5)
    places = [(64.0 + 128 * column, 64.0 + 128 * row) for row in range(3) for column in range(3)]
    return draw_tissue((384, 384), [plan_gland(score, place, 56, generator) for place in places], generator)


def nuclear_area(tissue: Tissue) -> float:
    """Median area, px, of the dark blobs in the middle of the glands of `draw_sheet_of`."""
    y, x = np.mgrid[0:384, 0:384] % 128 - 64
    dark = (tissue.he_haematoxylin > 0.35) & (np.hypot(x, y) < 45)
    _, _, facts, _ = cv2.connectedComponentsWithStats(dark.astype(np.uint8))
    areas = facts[1:, cv2.CC_STAT_AREA]
    return float(np.median(areas[areas > 20]))


def test_the_same_settings_draw_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert draw_demo(tmp_path / name, SMALL) == 6
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 13
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_another_seed_and_another_slide_draw_other_tissue() -> None:
    first = next(draw_slide(0, SMALL)).he.astype(int)
    for other in (
        next(draw_slide(1, SMALL)),
        next(draw_slide(0, DemoSettings(tile_side=64, rows=1, columns=2, seed=1))),
    ):
        assert np.abs(first - other.he).mean() > 10


def test_layout_is_that_of_mist(tmp_path: Path) -> None:
    draw_demo(tmp_path / "set", SMALL)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [MARKER, "trainA", "trainB", "valA", "valB"]
    for part in "AB":
        assert sorted(path.name for path in (tmp_path / "set" / f"train{part}").iterdir()) == [
            f"synthetic{slide}_0_{column}.jpg" for slide in ("01", "02") for column in (0, 1)
        ]
        assert sorted(path.name for path in (tmp_path / "set" / f"val{part}").iterdir()) == [
            "synthetic03_0_0.jpg",
            "synthetic03_0_1.jpg",
        ]
    assert read_picture(tmp_path / "set" / "valB" / "synthetic03_0_1.jpg").shape == (64, 64, 3)
    assert len(plan_files(DemoSettings())) == 240


def test_a_jpeg_is_the_drawn_picture_in_rgb_and_says_that_it_is_synthetic(tmp_path: Path) -> None:
    draw_demo(tmp_path / "set", SMALL)
    file = tmp_path / "set" / "trainA" / "synthetic01_0_0.jpg"
    assert file.read_bytes()[:4] == b"\xff\xd8\xff\xfe"
    assert b"synthetic tissue" in file.read_bytes()[:100]
    drawn = next(draw_slide(0, SMALL)).he.astype(int)
    assert np.abs(read_picture(file).mean(axis=(0, 1)) - drawn.mean(axis=(0, 1))).max() < 1.5


def test_the_marker_holds_the_settings_that_draw_the_set_again(tmp_path: Path) -> None:
    assert not is_synthetic(tmp_path)
    (tmp_path / MARKER).write_text(marker_text(SMALL))
    assert is_synthetic(tmp_path)
    assert load(DemoSettings, tmp_path / MARKER) == SMALL


def test_a_complete_set_is_kept_and_an_interrupted_one_is_drawn_again(tmp_path: Path) -> None:
    (tmp_path / ".set.partial" / "trainA").mkdir(parents=True)
    (tmp_path / ".set.partial" / "trainA" / "half.jpg").write_bytes(b"half")
    draw_demo(tmp_path / "set", SMALL)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}
    assert len([path for path in times if path.suffix == ".jpg"]) == 12
    assert draw_demo(tmp_path / "set", SMALL) == 6
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}


def test_a_set_that_another_process_draws_is_refused_and_left_alone(tmp_path: Path) -> None:
    beside = tmp_path / ".demo.partial" / "trainA"
    beside.mkdir(parents=True)
    with (
        locked(tmp_path / ".demo.lock", "it"),
        pytest.raises(StoreError, match=r"the synthetic set .*demo is being written by another process; wait for it"),
    ):
        draw_demo(tmp_path / "demo", SMALL)
    assert beside.is_dir()
    draw_demo(tmp_path / "demo", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_what_is_not_this_set_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "mist"
    foreign.mkdir()
    (foreign / "precious.jpg").write_bytes(b"data")
    with pytest.raises(StoreError, match=r"not a synthetic set \(no SYNTHETIC.txt\); choose"):
        draw_demo(foreign, SMALL)
    assert (foreign / "precious.jpg").read_bytes() == b"data"
    draw_demo(tmp_path / "set", SMALL)
    with pytest.raises(StoreError, match=r"drawn with other settings, or its"):
        draw_demo(tmp_path / "set", DemoSettings(slides=3, held_out=1, rows=1, columns=2, tile_side=64, seed=1))
    marker, text = tmp_path / "set" / "SYNTHETIC.txt", (tmp_path / "set" / "SYNTHETIC.txt").read_bytes()
    marker.write_bytes(b"\xff" + text[1:])
    with pytest.raises(StoreError, match=r"or its SYNTHETIC.txt is damaged; remove it or choose"):
        draw_demo(tmp_path / "set", SMALL)
    marker.write_bytes(text)
    (tmp_path / "set" / "valB" / "synthetic03_0_1.jpg").unlink()
    with pytest.raises(StoreError, match=r"1 of 12 pictures are missing, first valB/synthetic03_0_1.jpg; remove"):
        draw_demo(tmp_path / "set", SMALL)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("held_out=10", "e.g. 10 and 3"),
        ("rows=0", "must be 1 to 20"),
        ("tile_side=250", "nearest that does: 248"),
        ("seed=-1", "must be >= 0"),
        ("slide=3", "did you mean 'slides'"),
    ],
)
def test_settings_that_cannot_be_drawn_are_refused(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(DemoSettings, overrides=[override])


def test_dab_varies_widely_over_tiles_and_within_slides(tiles: list[list[DemoTile]]) -> None:
    dab = np.array([[mean_dab(tile.ihc) for tile in slide] for slide in tiles])
    assert np.percentile(dab, 5) < 0.35 * np.percentile(dab, 95)
    assert (dab.min(axis=1) < 0.5 * dab.max(axis=1)).all()


def test_dab_does_not_follow_from_the_brightness_of_the_he(tiles: list[list[DemoTile]]) -> None:
    drawn = [tile for slide in tiles for tile in slide]
    brightness, dab = [float(tile.he.mean()) for tile in drawn], [mean_dab(tile.ihc) for tile in drawn]
    assert abs(spearmanr(brightness, dab).statistic) < 0.5


def test_neighbouring_tiles_continue_each_other(tiles: list[list[DemoTile]]) -> None:
    left, right = tiles[0][0].he.astype(int), tiles[0][1].he.astype(int)
    across = np.abs(left[:, -1] - right[:, 0]).mean()
    within = np.abs(left[:, -2] - left[:, -1]).mean()
    assert (tiles[0][0].column, tiles[0][1].column) == (0, 1)
    assert across < 1.5 * within < 0.5 * np.abs(left[:, -1] - right[:, 128]).mean() * 1.5


def test_the_stains_are_in_register_up_to_three_pixels(tiles: list[list[DemoTile]]) -> None:
    shifts = []
    for tile in (tile for slide in tiles for tile in slide):
        he, ihc = (255 - picture[..., 0].astype(float) for picture in (tile.he, tile.ihc))  # red: nuclei in both
        shift, _, _ = phase_cross_correlation(he, ihc, upsample_factor=10)  # type: ignore[no-untyped-call]  # of skimage
        shifts.append(np.hypot(*shift))
    assert max(shifts) < 3.2
    assert max(shifts) > 0.5


def test_higher_scores_have_larger_nuclei_and_browner_membranes() -> None:
    tissues = [draw_sheet_of(score) for score in range(len(APPEARANCES))]
    areas, dab = [nuclear_area(t) for t in tissues], [float(t.ihc_dab.mean()) for t in tissues]
    assert all(low * 1.15 < high for low, high in pairwise(areas))
    assert all(low * 1.5 < high for low, high in pairwise(dab))
    assert dab[0] < 0.02 < 0.25 < dab[3]


def test_membranes_are_rings_between_nuclei() -> None:
    tissue = draw_sheet_of(3)
    membrane = tissue.ihc_dab > 0.9
    assert 0.05 < membrane.mean() < 0.3
    assert (
        tissue.ihc_haematoxylin[membrane].mean() < 0.6 * tissue.ihc_haematoxylin[tissue.ihc_haematoxylin > 0.3].mean()
    )
