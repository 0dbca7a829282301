"""The seam metric: pictures whose seams are known, and what must not change it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from store.images import PictureU8
from store.settings import plain, validate
from store.slides.geometry import Grid, Rect
from store.slides.seams import Ratio, Seams, measure_seams, plan_borders, ratio_of, steps_of

SIDE = 64


def reader(picture: PictureU8) -> Callable[[Rect], PictureU8]:
    """The rectangles of a picture in memory."""

    def read(rect: Rect) -> PictureU8:
        assert rect.is_inside(*picture.shape[:2])
        part: PictureU8 = picture[rect.top : rect.bottom, rect.left : rect.right]
        return part

    return read


def measure(picture: PictureU8, skipped: frozenset[tuple[int, int]] = frozenset(), most: int = 1000) -> Seams:
    found = measure_seams(reader(picture), grid_of(picture), skipped, most)
    assert found
    return found


def grid_of(picture: PictureU8) -> Grid:
    return Grid(height=picture.shape[0], width=picture.shape[1], side=SIDE)


def tissue(seed: int, height: int = 320, width: int = 384) -> PictureU8:
    """A smooth picture with fine grain, which knows nothing of tiles."""
    generator = np.random.default_rng(seed)
    coarse = cv2.resize(generator.uniform(60, 200, (9, 9, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(generator.normal(0, 30, (height, width, 3)), (0, 0), 1.0)
    return np.asarray(np.clip(coarse + fine, 0, 255), np.uint8)


def with_seams(picture: PictureU8, levels: float, seed: int = 0) -> PictureU8:
    """Each tile brighter or darker by up to `levels`."""
    grid, tinted = grid_of(picture), picture.astype(np.float64)
    generator = np.random.default_rng(seed)
    for place in grid.places():
        rect = grid.tile(*place)
        tinted[rect.top : rect.bottom, rect.left : rect.right] += generator.uniform(-levels, levels)
    return np.clip(tinted.round(), 0, 255).astype(np.uint8)


def test_a_step_of_known_size_has_the_ratio_that_follows() -> None:
    stripes = np.broadcast_to(np.array([100, 104], np.uint8).repeat(3).reshape(2, 3), (128, 64, 2, 3))
    picture = stripes.reshape(128, 128, 3).copy()  # every step along a row is 4, along a column 0
    picture[:, SIDE:] += 10  # 104 to 110 at the border
    found = measure(picture)
    assert found.vertical == Ratio(value=1.5, error=0.0, excess=2.0, borders=2)
    assert found.horizontal == Ratio(value=None, error=None, excess=0.0, borders=2)
    assert found.every.value == 1.5
    assert found.control.value == 1.0
    assert (found.worst.first, found.worst.second, found.worst.excess) == ((0, 0), (0, 1), 2.0)


def test_it_is_the_mean_over_all_pixels_of_the_definition() -> None:
    picture = with_seams(tissue(1), 6).astype(np.int64)
    height, width, _ = picture.shape
    across, beside = [], []
    for x in range(SIDE, width, SIDE):
        across.append(abs(picture[:, x] - picture[:, x - 1]))
        beside += [abs(picture[:, x - 1] - picture[:, x - 2]), abs(picture[:, x + 1] - picture[:, x])]
    vertical = np.mean(across) / np.mean(beside)
    for y in range(SIDE, height, SIDE):
        across.append(abs(picture[y] - picture[y - 1]))
        beside += [abs(picture[y - 1] - picture[y - 2]), abs(picture[y + 1] - picture[y])]
    found = measure(picture.astype(np.uint8))
    assert found.vertical.value == pytest.approx(vertical, rel=1e-12)
    assert found.every.value == pytest.approx(np.concatenate(across).mean() / np.concatenate(beside).mean(), rel=1e-12)
    assert found.every.borders == found.candidates == 5 * 5 + 4 * 6


def test_without_seams_it_is_one_within_its_error() -> None:
    off = []
    for seed in range(60):
        found = measure(tissue(seed))
        assert found.every.value is not None
        assert found.every.error is not None
        assert found.every.value == pytest.approx(1, abs=0.06)
        off.append((found.every.value - 1) / found.every.error)
    assert abs(np.mean(off)) < 0.4
    assert 0.7 < np.std(off) < 1.4  # the error says how far it is off


def test_it_grows_with_the_seams_and_the_control_does_not() -> None:
    values = [measure(with_seams(tissue(2), levels)) for levels in (0, 2, 5, 10, 20)]
    ratios = [one.every.value or 0 for one in values]
    assert ratios == sorted(ratios)
    assert ratios[0] < 1.05
    assert ratios[-1] > 1.8
    assert all(abs((one.control.value or 0) - 1) < 0.05 for one in values)


def test_turning_or_inverting_the_picture_changes_nothing() -> None:
    picture = with_seams(tissue(3), 5)
    found, turned = measure(picture), measure(picture.swapaxes(0, 1).copy())
    assert (turned.vertical.value, turned.horizontal.value) == pytest.approx(
        (found.horizontal.value, found.vertical.value), rel=1e-12
    )
    assert measure(255 - picture) == found


def test_seams_that_run_one_way_show_in_one_direction() -> None:
    picture = tissue(4).astype(np.int64)
    picture[:, SIDE : 2 * SIDE] += 12
    found = measure(np.clip(picture, 0, 255).astype(np.uint8))
    assert found.vertical.value is not None
    assert found.vertical.value > 1.2
    assert found.horizontal.value == pytest.approx(1, abs=0.08)
    assert {found.worst.first[1], found.worst.second[1]} in ({0, 1}, {1, 2})


def test_one_bad_tile_is_found() -> None:
    picture = tissue(5).astype(np.int64)
    picture[2 * SIDE : 3 * SIDE, 3 * SIDE : 4 * SIDE] += 25
    worst = measure(np.clip(picture, 0, 255).astype(np.uint8)).worst
    assert (2, 3) in (worst.first, worst.second)
    assert 10 < worst.excess < 25


def test_borders_next_to_skipped_tiles_are_left_out() -> None:
    clean = tissue(6)
    picture, skipped = clean.copy(), frozenset({(1, 1), (3, 0)})
    for place in skipped:
        rect = grid_of(picture).tile(*place)
        picture[rect.top : rect.bottom, rect.left : rect.right] = 255
    found = measure(picture, skipped)
    assert found == measure(clean, skipped)
    assert found.candidates == 49 - 4 - 3
    assert (measure(picture).every.value or 0) > (found.every.value or 0) + 0.1


@pytest.mark.parametrize(("height", "width"), [(64, 64), (30, 20), (65, 64), (64, 1), (65, 65)])
def test_a_picture_without_borders_has_no_seams(height: int, width: int) -> None:
    picture = tissue(7, height, width)  # a last tile of 1 px is too narrow to tell
    assert measure_seams(reader(picture), grid_of(picture)) is None


def test_where_all_neighbours_were_skipped_there_are_none() -> None:
    picture = tissue(8, 128, 128)
    assert measure_seams(reader(picture), grid_of(picture), {(0, 0), (1, 1)}) is None
    assert measure(picture, frozenset({(0, 0)})).candidates == 2


@pytest.mark.parametrize(("height", "width"), [(66, 128), (100, 200), (129, 300), (320, 66)])
def test_narrow_last_tiles_are_measured_and_never_read_beyond(height: int, width: int) -> None:
    found = measure(with_seams(tissue(9, height, width), 15))
    assert found.every.value is not None
    assert found.every.value > 1.05


def test_a_sample_of_borders_is_spread_evenly_and_says_so() -> None:
    picture = tissue(10, 640, 640)
    picture[320:] = with_seams(picture[320:], 8)
    every, some = measure(picture), measure(picture, most=60)
    assert (some.every.borders, some.candidates, every.every.borders) == (60, 180, 180)
    assert some.every.value == pytest.approx(every.every.value, abs=0.15)
    assert "at 60 of 180 borders" in str(some)
    assert " at 180 borders" in str(every)


def test_flat_tiles_of_different_colours_have_steps_and_no_ratio() -> None:
    picture = np.full((128, 128, 3), 90, np.uint8)
    assert str(measure(picture).every) == "flat, +0.00 levels"
    picture[:, SIDE:] = 94
    found = measure(picture)
    assert (found.every.value, found.every.excess, found.vertical.excess) == (None, 2.0, 4.0)


@pytest.mark.parametrize("quality", [30, 60])
def test_blocks_of_a_jpeg_are_no_seams_and_the_control_tells(quality: int) -> None:
    encoded = cv2.imencode(".jpg", tissue(11), (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
    found = measure(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8))
    assert found.control.value is not None
    assert found.control.value > 1.15
    assert found.every.value == pytest.approx(found.control.value, abs=0.1)


def test_wide_borders_count_more() -> None:
    wide, narrow = steps_of(tissue(12, 60, 4)), steps_of(tissue(13, 6, 4))
    both = np.concatenate([tissue(12, 60, 4), tissue(13, 6, 4)])
    joined = steps_of(both)
    assert ratio_of([wide, narrow]).value == pytest.approx(joined.across / joined.beside)
    assert ratio_of([wide]).error is None


def test_borders_are_planned_once_each() -> None:
    borders = list(plan_borders(Grid(height=200, width=130, side=64)))
    pairs = {(border.first, border.second) for border in borders}
    assert len(pairs) == len(borders) == 4 * 2 + 3 * 3


def test_they_are_read_back_from_a_record() -> None:
    found = measure(with_seams(tissue(14), 5))
    assert validate(Seams, plain(found)) == found
