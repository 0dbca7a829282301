"""What super-resolution changed: each number against a change that was made on purpose, then the report of a store."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from math import inf, isnan, log10
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from prep.fidelity.measures import Change, downsample, energy, measure, pool, spectrum
from prep.fidelity.report import report_fidelity
from prep.fidelity.run import BADNESS, Group, Measure, MeasuredPicture, find_worst, measure_pictures, tail
from prep.fidelity.sheet import amplify, find_window
from prep.fidelity.sources import Sample, Series, cut_again, draw_pictures, plan_series
from prep.settings import Recipe
from prep.upscaling.upscale import Lanczos
from prep.views import Geometry, plan_views
from store.images import read_picture
from store.reader import Store
from store.schema import Box, Manifest, SchemaError, Split, Stain, StoreError
from store.stain.dab import mean_dab
from store.writing.writer import open_writer
from tests.support.disks import contents
from tests.support.stores import draw_tile, small_blocks, small_manifest, small_table

ALL = Sample(limit=0, seed=0)
PATCH = draw_tile(32, 1)
BROWN = np.array([150, 105, 70], np.uint8)  # DAB on glass


def repeated(patch: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """An enlargement that agrees with its patch exactly."""
    return patch.repeat(factor, 0).repeat(factor, 1)


def measured(
    view: NDArray[np.uint8], patch: NDArray[np.uint8], stain: Stain = Stain.IHC, tile: NDArray[np.uint8] | None = None
) -> Change:
    lanczos = Lanczos().enlarge(patch[None], view.shape[0] // patch.shape[0])[0]
    return measure(view=view, patch=patch, lanczos=lanczos, tile=patch if tile is None else tile, stain=stain)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_view_that_agrees_with_its_patch_has_changed_nothing(factor: int) -> None:
    change = measured(repeated(PATCH, factor), PATCH)
    assert (change.error, change.psnr) == (0, inf)
    assert (change.drift_l, change.drift_a, change.drift_b, change.colour_error) == (0, 0, 0, 0)
    assert change.dab_view == change.dab_patch


def test_psnr_is_that_of_the_downsampled_view() -> None:
    view = repeated(PATCH, 2).astype(int)
    view[::2] += 6  # half of the rows: 3 grey levels more in every mean over an area
    assert measured(np.clip(view, 0, 255).astype(np.uint8), PATCH).psnr == pytest.approx(20 * log10(255 / 3), abs=0.05)


def test_the_patch_given_in_place_of_the_view_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"a view of 32 px is no enlargement of a patch of 64 px by a whole factor"):
        downsample(PATCH, 64)
    with pytest.raises(SchemaError, match="a view of 32 px is no enlargement of a patch of 12 px"):
        downsample(PATCH, 12)


@pytest.mark.parametrize(
    ("channel", "axis", "sign"),
    [(0, "drift_a", 1), (1, "drift_a", -1), (2, "drift_b", -1), (slice(None), "drift_l", 1)],
)
def test_colour_drift_has_the_sign_of_what_was_done(channel: int | slice, axis: str, sign: int) -> None:
    patch = np.full((16, 16, 3), 120, np.uint8)
    view = repeated(patch, 2)
    view[..., channel] += 12
    change = measured(view, patch)
    drift = {name: getattr(change, name) for name in ("drift_l", "drift_a", "drift_b")}
    assert sign * drift[axis] > 2
    assert change.colour_error > 2
    back = measured(repeated(view[::2, ::2], 2) - (view - repeated(patch, 2)), view[::2, ::2])
    assert {name: round(getattr(back, name), 6) for name in drift} == {n: round(-v, 6) for n, v in drift.items()}


def test_dab_gained_and_lost_is_a_share_of_the_patchs() -> None:
    """Optical density is what is compared: light^k has k times the density, in every stain."""
    patch = np.broadcast_to(BROWN, (16, 16, 3)).copy()
    before = mean_dab(patch)
    assert before > 0.1
    for power in (1.25, 0.8):
        light = 255 * (BROWN / 255) ** power
        share = measured(repeated(np.broadcast_to(np.rint(light).astype(np.uint8), patch.shape), 2), patch).dab_share
        assert share == pytest.approx(power - 1, abs=0.02)
    assert isnan(measured(repeated(patch, 2), patch, Stain.HE).dab_share)
    glass = np.full((16, 16, 3), 247, np.uint8)
    assert isnan(measured(repeated(glass, 2), glass).dab_share)  # next to no stain has no share


def test_the_energy_of_a_band_is_the_mean_square_of_what_is_in_it() -> None:
    """Cosines of a coefficient below and above 32: the sum over bands is the mean square of the picture (Parseval)."""
    places = np.pi * (np.arange(64) + 0.5) / 64
    for k in (5, 31, 32, 60):
        wave = 20 * np.cos(k * places)[:, None, None] * np.ones((64, 64, 3))
        of_wave = spectrum(wave)
        below, above = energy(of_wave, of_wave, 0, 32), energy(of_wave, of_wave, 32, 64)
        assert (below, above) == pytest.approx((200, 0) if k < 32 else (0, 200), abs=1e-9)
    noisy = draw_tile(64, 9).astype(float)
    whole = spectrum(noisy)
    assert energy(whole, whole, 0, 64) == pytest.approx(np.square(noisy).mean())


def test_added_detail_is_the_detail_beyond_lanczos() -> None:
    lanczos = Lanczos().enlarge(PATCH[None], 2)[0]
    assert measured(lanczos, PATCH).added == 0
    checks = 8 * (1 - 2 * (np.indices((64, 64)).sum(0) % 2))[..., None]  # finer than 32 px can hold, mean square 64
    textured = measured(np.clip(lanczos + checks, 0, 255).astype(np.uint8), PATCH)
    assert textured.detail_view == pytest.approx(measured(lanczos, PATCH).detail_view + 64, rel=0.05)
    assert textured.added > 4
    blurred = measured(repeated(downsample(lanczos, 16).astype(np.uint8), 4), PATCH)
    assert blurred.psnr < textured.psnr  # texture that averages out costs no PSNR; that is why it is counted apart


def test_truth_tells_restored_from_invented() -> None:
    """The tile as delivered holds twice the pixels of the patch: its own detail is known."""
    tile = draw_tile(64, 4)
    patch = np.rint(downsample(tile, 32)).astype(np.uint8)
    assert measured(tile, patch, tile=tile).truth == pytest.approx(1)
    lanczos = Lanczos().enlarge(patch[None], 2)[0]
    noise = np.random.default_rng(0).normal(0, 6, tile.shape)
    invented = np.clip(lanczos + noise, 0, 255).astype(np.uint8)
    assert abs(measured(invented, patch, tile=tile).truth) < 0.1
    half = np.clip(tile.astype(float) + noise, 0, 255).astype(np.uint8)
    assert 0.4 < measured(half, patch, tile=tile).truth < 0.95
    assert isnan(measured(tile, patch).truth)  # nothing finer than the patch is known


def test_numbers_of_several_pictures_are_those_of_their_pixels() -> None:
    one, other = measured(repeated(PATCH, 2), PATCH), measured(repeated(PATCH, 2)[::-1].copy(), PATCH)
    both = pool([one, other])
    assert both.error == other.error / 2
    assert both.psnr == pytest.approx(other.psnr + 10 * log10(2))
    assert both.dab_view == pytest.approx((one.dab_view + other.dab_view) / 2)


def a_change(**numbers: float) -> Change:
    return Change(**(dict.fromkeys([field.name for field in fields(Change)], 0.0) | numbers))


def a_group(store: Store, *changes: Change, split: Split = Split.TRAIN, stain: Stain = Stain.IHC) -> Group:
    series = plan_series(store, [split])[0][0]
    box = Box(top=0, left=0, side=32)
    pictures = tuple(
        MeasuredPicture(row=row, pair=f"p{row}", index=0, slide=f"s{row % 2}", box=box, change=change)
        for row, change in enumerate(changes)
    )
    return Group(series=series, stain=stain, available=len(changes), pictures=pictures)


def test_pictures_are_ranked_worst_first_and_the_worst_5_percent_is_one_of_20(small_store: Store) -> None:
    group = a_group(small_store, *(a_change(error=error) for error in (3, 1, 100, 2)))
    order = group.ranked(Measure.PSNR)
    assert [picture.row for picture in order] == [2, 0, 3, 1]
    assert tail(order).row == 2
    many = a_group(small_store, *(a_change(error=100 - row) for row in range(60))).ranked(Measure.PSNR)
    assert [tail(many[:count]).row for count in (20, 21, 40, 41, 60)] == [0, 1, 1, 2, 2]
    assert group.slides()["s0"][1].error == 51.5


def test_dab_is_ranked_both_ways_and_where_it_is_defined(small_store: Store) -> None:
    shares = [(0.5, 0.4), (0.5, 0.55), (0.01, 0.2), (0.4, 0.5)]
    group = a_group(small_store, *(a_change(dab_patch=patch, dab_view=view) for patch, view in shares))
    assert [picture.row for picture in group.ranked(Measure.DAB)] == [3, 0, 1]
    assert set(BADNESS) == set(Measure)


def test_the_worst_over_all_splits_is_shown_once_with_all_its_reasons(small_store: Store) -> None:
    train = a_group(small_store, a_change(error=5, colour_error=1), a_change(error=1, colour_error=9))
    test = a_group(small_store, a_change(error=7, colour_error=2), split=Split.TEST)
    worst = find_worst([train, test])
    assert [(one.group.series.split, one.picture.row, one.measures) for one in worst] == [
        (Split.TEST, 0, (Measure.PSNR,)),
        (Split.TRAIN, 1, (Measure.COLOUR,)),
    ]
    both = find_worst([a_group(small_store, a_change(error=7, colour_error=2))])
    assert [one.measures for one in both] == [(Measure.PSNR, Measure.COLOUR)]
    assert find_worst([a_group(small_store, a_change())]) == []


def test_a_patch_is_cut_again_as_it_was(small_store: Store) -> None:
    """The store was enlarged by Lanczos, so Lanczos of what is cut again gives its views to the byte."""
    series, unmeasured = plan_series(small_store, [*small_store.manifest.counts])
    assert not unmeasured
    assert [(one.split, one.view, one.origin) for one in series] == [
        (split, view, "tile") for split in (Split.TRAIN, Split.TEST) for view in ("x2", "x4")
    ]
    for one in series:
        for row in (0, 3):
            for stain in Stain:
                cut = cut_again(small_store, one, stain, row, 0)
                np.testing.assert_array_equal(cut.lanczos, cut.view)
                assert cut.patch.shape[0] == one.geometry.patch_side
                assert cut.tile.shape[0] == small_store.box(one.split, one.view, row).side
                assert np.abs(downsample(cut.tile, cut.patch.shape[0]) - cut.patch).max() <= 0.5


def build(path: Path, manifest: Manifest) -> Store:
    """The small store with another manifest."""
    with open_writer(path, manifest, small_table()) as writer:
        for unit in writer.pending():
            blocks = small_blocks(manifest, unit)
            writer.write(unit, {p: b for p, b in blocks.items() if manifest.has_tiles(unit.split) or "/tile/" not in p})
        writer.seal()
    return Store.open(path)


def test_without_tiles_patches_are_cut_from_x1(tmp_path: Path, small_store: Store) -> None:
    store = build(tmp_path / "s.zarr", replace(small_manifest(), keep_tiles=False))
    series, _ = plan_series(store, [Split.TRAIN, Split.TEST])
    assert {(one.split, one.origin) for one in series} == {(Split.TRAIN, "x1"), (Split.TEST, "tile")}
    kept = plan_series(small_store, [Split.TRAIN])[0]
    for one, same in zip(series, kept, strict=False):
        cut, expected = (cut_again(s, w, Stain.IHC, 2, 0) for s, w in ((store, one), (small_store, same)))
        np.testing.assert_array_equal(cut.patch, expected.patch)
        np.testing.assert_array_equal(cut.lanczos, expected.lanczos)
        np.testing.assert_array_equal(cut.tile, cut.patch)  # nothing finer is known


def test_views_that_cannot_be_measured_are_named(tmp_path: Path) -> None:
    """At a view side of 64 px, native views of 128 px tiles are enlarged at zoom 4 only."""
    native = replace(small_manifest(), keep_tiles=False, recipe=Recipe.NATIVE, views=plan_views(Recipe.NATIVE, 1))
    store = build(tmp_path / "s.zarr", native)
    series, unmeasured = plan_series(store, [Split.TRAIN, Split.TEST])
    assert [(one.split, one.view) for one in series] == [(Split.TEST, "x4")]
    assert [(what.split, what.view) for what in unmeasured] == [(Split.TRAIN, "x4")]
    text = report_fidelity(store, [Split.TRAIN, Split.TEST], ALL, tmp_path / "out").markdown
    assert "- **not measured**: x4 of train cannot be measured: it was cut from the tile as delivered" in text
    with pytest.raises(StoreError, match=r"x4 of train cannot be measured: .*build a store with --set keep_tiles=true"):
        plan_series(store, [Split.TRAIN])
    with pytest.raises(StoreError, match=r"no pairs in val .*it has train, test: choose one with --split"):
        plan_series(store, [Split.VAL])


def test_a_store_without_enlarged_views_has_nothing_to_measure(tmp_path: Path) -> None:
    store = build(tmp_path / "s.zarr", replace(small_manifest(), views=plan_views(Recipe.PAPER, 1)[:1]))
    with pytest.raises(StoreError, match=r"none of its views \(x1\) was enlarged: nothing to measure"):
        plan_series(store, [Split.TRAIN])


def test_pictures_are_drawn_by_seed_and_split() -> None:
    views = plan_views(Recipe.PAPER, 3)
    geometry = Geometry(view=views[1], tile_side=128, view_side=64, margin=4)
    train, test = (Series(split=split, geometry=geometry, origin="tile") for split in (Split.TRAIN, Split.TEST))
    assert draw_pictures(train, 2, ALL) == [(row, index) for row in (0, 1) for index in (0, 1, 2)]
    drawn = draw_pictures(train, 100, Sample(limit=20, seed=0))
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 20
    assert drawn == draw_pictures(train, 100, Sample(limit=20, seed=0))
    assert drawn != draw_pictures(train, 100, Sample(limit=20, seed=1))
    assert drawn != draw_pictures(test, 100, Sample(limit=20, seed=0))


def test_the_report_of_a_store(small_store: Store, tmp_path: Path) -> None:
    before = contents(small_store.path)
    report = report_fidelity(small_store, [Split.TRAIN, Split.TEST], ALL, tmp_path / "out")
    text = report.markdown
    assert contents(small_store.path) == before
    assert sorted(contents(tmp_path / "out")) == ["fidelity.json", "fidelity.md", "worst.png"]
    assert (tmp_path / "out" / "fidelity.md").read_text() == text
    assert "**SYNTHETIC, drawn and not tissue.**" in text
    assert "- **no super-resolution**: these are the numbers of plain interpolation" in text
    document = json.loads((tmp_path / "out" / "fidelity.json").read_text())
    assert document["store"]["seal"] == small_store.manifest.seal
    assert [(g["split"], g["view"], g["stain"], g["judged"]) for g in document["groups"]] == [
        (split, view, stain, count)
        for split, count in (("train", 8), ("test", 4))
        for view in ("x2", "x4")
        for stain in ("he", "ihc")
    ]
    group = document["groups"][1]
    cut = cut_again(small_store, plan_series(small_store, [Split.TRAIN])[0][0], Stain.IHC, 5, 0)
    error = np.square(downsample(cut.view, cut.patch.shape[0]) - cut.patch).mean()
    assert group["pictures"][5]["psnr_db"] == pytest.approx(10 * log10(255**2 / error))
    assert group["pictures"][5]["detail_view"] == pytest.approx(group["pictures"][5]["detail_lanczos"])
    errors = [255**2 / 10 ** (picture["psnr_db"] / 10) for picture in group["pictures"]]
    assert group["all"]["psnr_db"] == pytest.approx(10 * log10(255**2 / np.mean(errors)))
    assert group["worst"]["psnr"]["psnr_db"] == min(picture["psnr_db"] for picture in group["pictures"])
    assert f"{group['all']['psnr_db']:.1f}" in text
    assert read_picture(tmp_path / "out" / "worst.png").std() > 10
    summary = report.summary.splitlines()
    assert max(map(len, summary)) <= 100
    assert [line.split()[:3] for line in summary[1:]] == [
        [g["split"], g["view"], g["stain"]] for g in document["groups"]
    ]
    assert f"{group['all']['psnr_db']:.1f}" in summary[2]


def test_a_report_is_never_written_into_a_store(small_store: Store) -> None:
    before = contents(small_store.path)
    for inside in ("out", "train/x1"):
        with pytest.raises(StoreError, match="is a store or inside one"):
            report_fidelity(small_store, [Split.TEST], ALL, small_store.path / inside)
    assert contents(small_store.path) == before


def test_both_stains_are_measured_at_the_same_places(small_store: Store) -> None:
    series = plan_series(small_store, [Split.TRAIN])[0]
    groups = measure_pictures(small_store, series, Sample(limit=3, seed=5))
    for he, ihc in zip(groups[::2], groups[1::2], strict=True):
        assert [p.row for p in he.pictures] == [p.row for p in ihc.pictures]
        assert (he.stain, ihc.stain) == (Stain.HE, Stain.IHC)
        assert [p.change.error for p in he.pictures] != [p.change.error for p in ihc.pictures]


def test_the_window_of_the_sheet_shows_the_difference() -> None:
    difference = np.zeros((40, 40, 3))
    difference[30:34, 7:11] = 5
    top, left = find_window(difference, 8)
    assert top <= 30 <= 34 <= top + 8
    assert left <= 7 <= 11 <= left + 8
    assert set(amplify(difference, 8).flatten()) == {128, 168}
