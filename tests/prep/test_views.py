"""Views: which boxes and windows there are, their cost, and that what is cut is what the box says."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from prep.settings import Recipe
from prep.views import (
    Geometry,
    cut_source,
    cut_tile,
    cut_window,
    draw_box,
    finish_view,
    keyed_generator,
    plan_boxes,
    plan_views,
    shrink,
)
from store.schema import Box, SchemaError, Source, View

MIST_HER2 = 4642  # training pairs


def geometries(recipe: Recipe, tile_side: int, view_side: int, margin: int = 0, boxes: int = 1) -> list[Geometry]:
    return [
        Geometry(view=view, tile_side=tile_side, view_side=view_side, margin=margin)
        for view in plan_views(recipe, boxes)
    ]


def noise(side: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def repeat(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Enlarged by whole pixels: every pixel of the result says where it came from."""
    return picture.repeat(factor, 0).repeat(factor, 1)


def cut(tile: NDArray[np.uint8], box: Box, geometry: Geometry) -> NDArray[np.uint8]:
    window = cut_window(cut_source(tile, geometry), box, geometry)
    return finish_view(repeat(window, int(geometry.factor)) if geometry.enlarged else window, box, geometry)


@pytest.mark.parametrize(
    ("recipe", "view_side", "expected"),
    [  # (zoom, source, patch, factor): the tables of section 9.3 of the method, tiles of 1024 px
        (Recipe.PAPER, 512, [(1, "field", 512, 1), (2, "field", 256, 2), (4, "field", 128, 4)]),
        (Recipe.NATIVE, 512, [(1, "native", 1024, Fraction(1, 2)), (2, "native", 512, 1), (4, "native", 256, 2)]),
        (Recipe.NATIVE, 1024, [(1, "native", 1024, 1), (2, "native", 512, 2), (4, "native", 256, 4)]),
        (
            Recipe.WIDE,
            512,
            [
                (1, "native", 1024, Fraction(1, 2)),
                (2, "native", 512, 1),
                (4, "native", 256, 2),
                (8, "native", 128, 4),
            ],
        ),
    ],
)
def test_recipes_have_the_published_patches_and_factors(
    recipe: Recipe, view_side: int, expected: list[tuple[int, str, int, Fraction | int]]
) -> None:
    plans = geometries(recipe, 1024, view_side)
    assert [(g.view.zoom, g.view.source, g.patch_side, g.factor) for g in plans] == expected
    assert [g.enlarged for g in plans] == [factor > 1 for *_, factor in expected]


def test_boxes_are_asked_for_at_every_zoom_but_the_first() -> None:
    assert [view.count for view in plan_views(Recipe.WIDE, 3)] == [1, 3, 3, 3]
    assert [view.name for view in plan_views(Recipe.WIDE, 3)] == ["x1", "x2", "x4", "x8"]


@pytest.mark.parametrize(
    ("recipe", "view_side", "margin", "tflop"),
    [  # sections 9.3 and 9.4: both stains of all training pairs, one box per view
        (Recipe.PAPER, 512, 0, 25_987),
        (Recipe.PAPER, 512, 16, 34_509),
        (Recipe.NATIVE, 512, 0, 20_533),
        (Recipe.NATIVE, 1024, 0, 103_948),
        (Recipe.WIDE, 512, 0, 25_987),
    ],
)
def test_super_resolution_of_mist_her2_costs_what_was_counted(
    recipe: Recipe, view_side: int, margin: int, tflop: int
) -> None:
    flop = sum(2 * MIST_HER2 * g.view.count * g.flop() for g in geometries(recipe, 1024, view_side, margin))
    assert round(flop / 1e12) == tflop


@pytest.mark.parametrize(("tile_side", "zoom", "grid"), [(1024, 2, 2), (1024, 4, 2), (96, 2, 2), (1000, 4, 250)])
def test_boxes_lie_inside_the_tile_and_reach_its_edges(tile_side: int, zoom: int, grid: int) -> None:
    boxes = [draw_box(tile_side, zoom, grid, np.random.default_rng(seed)) for seed in range(2000)]
    last = tile_side - tile_side // zoom
    for starts in (np.array([box.top for box in boxes]), np.array([box.left for box in boxes])):
        assert starts.min() == 0
        assert starts.max() == last
        assert (starts % grid == 0).all()
        assert abs(starts.mean() - last / 2) < 0.05 * last  # uniform: standard error 0.013 of the range at most
    assert {box.side for box in boxes} == {tile_side // zoom}
    places = (last // grid + 1) ** 2
    assert 2 * len({(box.top, box.left) for box in boxes}) > min(places, 2000)


def test_a_box_is_a_function_of_seed_pair_zoom_and_index_and_of_no_order() -> None:
    geometry = geometries(Recipe.PAPER, 1024, 512, boxes=5)[2]
    ids = [f"slide_{n}_0" for n in range(40)] + ["é 'x'/a..b"]
    alone = {pair: plan_boxes(geometry, 7, pair) for pair in ids}
    for pair in random.Random(0).sample(ids, len(ids)):
        assert plan_boxes(geometry, 7, pair) == alone[pair]
    fewer = geometries(Recipe.PAPER, 1024, 512, boxes=2)[2]
    assert all(plan_boxes(fewer, 7, pair) == alone[pair][:2] for pair in ids)  # more boxes leave the first ones
    drawn = [(box.top, box.left) for boxes in alone.values() for box in boxes]
    assert len(set(drawn)) > 0.99 * len(drawn)
    assert all(plan_boxes(geometry, 8, pair) != alone[pair] for pair in ids)
    half = geometries(Recipe.PAPER, 1024, 512, boxes=5)[1]
    same_place = [a.top == b.top for pair in ids for a, b in zip(alone[pair], plan_boxes(half, 7, pair), strict=True)]
    assert np.mean(same_place) < 0.05  # zooms are drawn apart


def test_keys_are_different_and_boxes_keep_their_values() -> None:
    assert keyed_generator(0, "a", 2, 1).random() == keyed_generator(0, "a", 2, 1).random()
    assert keyed_generator(0, "a1", 2).random() != keyed_generator(0, "a", 12).random()
    geometry = geometries(Recipe.PAPER, 1024, 512)[1]
    # golden: PCG64 seeded with the bytes of sha256("(0, '100M2004069_10_9', 2, 0)"), numpy 2.4; a store depends on it
    assert plan_boxes(geometry, 0, "100M2004069_10_9") == [Box(top=142, left=210, side=512)]


def test_the_first_zoom_shows_the_whole_tile() -> None:
    for recipe in Recipe:
        first = geometries(recipe, 256, 128)[0]
        assert plan_boxes(first, 0, "a") == [Box(top=0, left=0, side=256)]
        assert np.array_equal(cut(noise(256), plan_boxes(first, 0, "a")[0], first), shrink(noise(256), 128))


@pytest.mark.parametrize(("tile_side", "view_side"), [(1024, 512), (256, 128), (1000, 512), (96, 72), (240, 64)])
def test_a_box_is_whole_in_the_source_and_places_reach_both_edges(tile_side: int, view_side: int) -> None:
    for geometry in geometries(Recipe.PAPER, tile_side, view_side)[1:]:
        last = tile_side - tile_side // geometry.view.zoom
        assert geometry.grid % 2 == 0
        assert last % geometry.grid == 0
        ratio = Fraction(geometry.source_side, tile_side)
        assert all((top * ratio).denominator == 1 for top in range(0, last + 1, geometry.grid))


@pytest.mark.parametrize("margin", [0, 3, 8, 16, 40])
@pytest.mark.parametrize("recipe", list(Recipe))
def test_every_place_gives_exactly_its_patch_from_a_window_of_one_size(recipe: Recipe, margin: int) -> None:
    """The patch enlarged by whole pixels, cut from the source directly, is what remains of the window."""
    tile = noise(128)
    for geometry in geometries(recipe, 128, 64, margin):
        source, patch = cut_source(tile, geometry), geometry.patch_side
        last = 128 - 128 // geometry.view.zoom
        for start in range(0, last + 1, geometry.grid):
            box = Box(top=start, left=last - start, side=128 // geometry.view.zoom)
            window = cut_window(source, box, geometry)
            assert window.shape == (geometry.window_side, geometry.window_side, 3)  # shifted inward, never shrunk
            top, left = (n * geometry.source_side // 128 for n in (box.top, box.left))
            direct = source[top : top + patch, left : left + patch]
            whole = repeat(direct, int(geometry.factor)) if geometry.enlarged else shrink(direct, 64)
            assert np.array_equal(cut(tile, box, geometry), whole)
            assert cut(tile, box, geometry).shape == (64, 64, 3)


def test_windows_have_their_margin_on_both_sides_inside_and_on_one_side_at_an_edge() -> None:
    geometry = geometries(Recipe.PAPER, 256, 128, margin=8)[2]
    assert (geometry.patch_side, geometry.window_side) == (32, 48)
    source = np.zeros((128, 128, 3), np.uint8)
    source[..., 0], source[..., 1] = np.mgrid[:128, :128]  # row and column
    for top, first in ((0, 0), (10, 0), (16, 0), (18, 1), (100, 42), (180, 80), (192, 80)):  # tile px, source px
        window = cut_window(source, Box(top=top, left=96, side=64), geometry)
        assert window[0, 0].tolist() == [first, 40, 0]
        assert window[-1, -1].tolist() == [first + 47, 87, 0]


def test_a_margin_larger_than_the_source_takes_the_whole_source() -> None:
    geometry = geometries(Recipe.PAPER, 256, 128, margin=500)[1]
    assert geometry.window_side == 128
    assert np.array_equal(cut_window(noise(128), Box(top=128, left=0, side=128), geometry), noise(128))
    assert geometries(Recipe.PAPER, 256, 128, margin=500)[0].window_side == 128  # nothing is enlarged: no margin
    assert geometries(Recipe.NATIVE, 256, 128, margin=16)[1].window_side == 128


def test_both_stains_and_all_zooms_show_one_place() -> None:
    """The mean colour of a view is that of its box on the tile, whatever was done to bring it to the view side."""
    he, ihc = noise(256, 1), noise(256, 2)
    ramp = np.linspace(0, 200, 256)
    he[..., 0] = ihc[..., 2] = ramp[:, None]  # a red H&E ramp and a blue IHC ramp downwards, green across
    he[..., 1] = ihc[..., 1] = ramp[None, :]
    for recipe in Recipe:
        for geometry in geometries(recipe, 256, 128, margin=4, boxes=3):
            for box in plan_boxes(geometry, 0, "pair"):
                he_view, ihc_view = cut(he, box, geometry), cut(ihc, box, geometry)
                assert np.array_equal(he_view[..., 0], ihc_view[..., 2])
                assert np.array_equal(he_view[..., 1], ihc_view[..., 1])
                on_tile = he[box.top : box.top + box.side, box.left : box.left + box.side, :2]
                assert he_view[..., :2].mean((0, 1)) == pytest.approx(on_tile.mean((0, 1)), abs=0.6)


@pytest.mark.parametrize(("side", "smaller"), [(128, 64), (128, 32), (96, 32), (100, 64), (24, 23), (256, 128)])
def test_downsampling_is_the_exact_mean_over_areas(side: int, smaller: int) -> None:
    picture = noise(side, side)
    step, pixel = side / smaller, np.arange(side)
    start = step * np.arange(smaller)[:, None]
    shared = np.minimum(pixel + 1, start + step) - np.maximum(pixel, start)
    weight = np.maximum(shared, 0) / step  # [smaller,side]: share of each pixel in each area
    mean = np.einsum("ay,bx,yxc->abc", weight, weight, picture.astype(np.float64), optimize=True)
    assert np.abs(shrink(picture, smaller) - mean).max() <= 0.5 + 1e-4
    assert np.array_equal(shrink(picture, side), picture)


@pytest.mark.parametrize(
    ("source", "zoom", "tile_side", "view_side", "message"),
    [
        (Source.NATIVE, 4, 1020, 512, "1020 px does not divide by 8 (2 x zoom 4); nearest that do: 1016, 1024"),
        (Source.NATIVE, 8, 7, 16, "tile side 7 px does not divide by 16 (2 x zoom 8); nearest that do: 16"),
        (Source.FIELD, 2, 256, 512, "tile side 256 px is smaller than view_side 512 px"),
        (Source.FIELD, 2, 16, 32, "view_side to 16 or less, for example --set view_side=16 (make"),  # a view has 16 px
        (Source.FIELD, 2, 8, 32, "to which this recipe downsamples tiles; give larger tiles"),
        (Source.FIELD, 4, 256, 130, "view_side 130 px does not divide by zoom 4; use 128 or 132"),
        (Source.NATIVE, 4, 256, 512, "would be enlarged by 8; only 2 and 4 exist"),
        (Source.NATIVE, 4, 1024, 384, "would be enlarged by 1.5; only 2 and 4 exist"),
    ],
)
def test_lengths_that_do_not_go_together_are_refused_with_the_nearest_that_do(
    source: Source, zoom: int, tile_side: int, view_side: int, message: str
) -> None:
    view = View(zoom=zoom, source=source)
    with pytest.raises(SchemaError) as caught:
        Geometry(view=view, tile_side=tile_side, view_side=view_side, margin=16)
    assert message in str(caught.value)


@pytest.mark.parametrize(("recipe", "side"), [(Recipe.PAPER, 128), (Recipe.WIDE, 512)])
def test_a_tile_is_downsampled_once_for_all_views(recipe: Recipe, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []

    def count(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
        sides.append(picture.shape[0])
        return shrink(picture, side)

    monkeypatch.setattr("prep.views.shrink", count)
    views = geometries(recipe, side, 64, boxes=3)
    cut = cut_tile(views, noise(side), [plan_boxes(view, 0, "pair") for view in views])
    assert [len(pictures) for pictures in cut] == [view.view.count for view in views]
    sources = {view.source_side for view in views}
    whole = sum(view.view.zoom == 1 and view.source_side == side for view in views)  # x1 of a native recipe
    assert sides.count(side) == len(sources) + whole
