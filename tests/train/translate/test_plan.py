"""Windows: cores partition a picture, a window has its core and the overlap, and padding is cut off again."""

from __future__ import annotations

import numpy as np
import pytest

from store.slides.geometry import Grid, Rect
from train.translate.plan import Sides, Window, measured_window, window_of

DRAWN = 300  # pictures


def draw_plan(seed: int) -> tuple[Grid, int, Sides]:
    """A picture in tiles, an overlap, and the sides of a generator."""
    draw = np.random.default_rng(seed)
    height, width = (int(n) for n in draw.integers(1, 700, 2))
    multiple = int(draw.choice([1, 4, 32]))
    sides = Sides(multiple=multiple, least=multiple * int(draw.integers(1, 3)))
    return Grid(height=height, width=width, side=16 * int(draw.integers(4, 20))), int(draw.integers(0, 120)), sides


@pytest.mark.parametrize("start", range(3))
def test_cores_partition_the_picture_and_windows_hold_them_with_what_is_around(start: int) -> None:
    for seed in range(start * DRAWN, (start + 1) * DRAWN):
        grid, overlap, sides = draw_plan(seed)
        covered = np.zeros((grid.height, grid.width), np.uint8)
        for place in grid.places():
            core = grid.tile(*place)
            covered[core.top : core.bottom, core.left : core.right] += 1
            window = window_of(core, grid.height, grid.width, overlap, sides)
            check_window(window, grid, overlap, sides)
        assert (covered == 1).all()


def check_window(window: Window, grid: Grid, overlap: int, sides: Sides) -> None:
    core, read = window.core, window.read
    assert read.is_inside(grid.height, grid.width)
    assert read.top % sides.multiple == read.left % sides.multiple == 0
    for core_first, first, core_end, end, length in (
        (core.top, read.top, core.bottom, read.bottom, grid.height),
        (core.left, read.left, core.right, read.right, grid.width),
    ):
        assert first == 0 or overlap <= core_first - first < overlap + sides.multiple
        assert end == length or overlap <= end - core_end < overlap + sides.multiple
    assert window.height % sides.multiple == window.width % sides.multiple == 0
    assert 0 <= window.height - read.height < max(sides.multiple, sides.least)
    assert min(window.height, window.width) >= sides.least


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (5, 3), (7, 64), (33, 2), (64, 64)])
def test_a_picture_of_any_size_is_mirrored_and_its_core_comes_back(height: int, width: int) -> None:
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    window = window_of(Rect(top=0, left=0, height=height, width=width), height, width, 16, Sides(multiple=16, least=32))
    filled = window.fill(picture)
    assert filled.shape == (max(32, -(-height // 16) * 16), max(32, -(-width // 16) * 16), 3)
    np.testing.assert_array_equal(filled[window.kept], picture)
    for row in range(filled.shape[0]):
        for column in range(filled.shape[1]):
            np.testing.assert_array_equal(filled[row, column], picture[mirror(row, height), mirror(column, width)])


def mirror(place: int, length: int) -> int:
    """Where a place beyond the edge is mirrored from: there and back again, without the edge twice."""
    if length == 1:
        return 0
    place %= 2 * length - 2
    return place if place < length else 2 * length - 2 - place


@pytest.mark.parametrize("seed", range(40))
def test_what_is_measured_is_a_whole_tile_where_the_picture_has_room(seed: int) -> None:
    grid, _, sides = draw_plan(seed)
    for place in grid.places():
        core = grid.tile(*place)
        window = measured_window(core, grid.height, grid.width, grid.side, sides)
        assert window.read.is_inside(grid.height, grid.width)
        assert window.read.top <= core.top
        assert window.read.bottom >= core.bottom
        assert window.read.left <= core.left
        assert window.read.right >= core.right
        for length, whole in ((window.read.height, grid.height), (window.read.width, grid.width)):
            assert min(grid.side, whole) <= length < grid.side + 2 * sides.multiple
