"""Finished units of a picture: written in any order, by several at once, read in parts; damaged ones are found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from store.images import PictureU8
from store.schema import SchemaError, StoreError
from store.slides.geometry import Rect
from store.slides.writing.layer import Layer
from store.slides.writing.levels import make_level
from store.slides.writing.plan import OutputKind, Packing, SpoolPlan, output_tile, plan_levels, plan_spool
from store.slides.writing.spool import Spool
from tests.support.disks import contents
from tests.support.spools import SHAPES, blurred, cores, drawn, plain_halves, put_all, whole

LOSSLESS = [OutputKind.PNG, OutputKind.OME_TIFF, OutputKind.OME_ZARR]


def opened(folder: Path, height: int, width: int, kind: OutputKind = OutputKind.OME_TIFF, side: int = 64) -> Spool:
    return Spool.open(folder, plan_spool(kind, height, width, side, "one"))


def everything(level: Layer) -> PictureU8:
    """All of a level."""
    return level.read(Rect(top=0, left=0, height=level.grid.height, width=level.grid.width))


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_rectangle_is_read_back(tmp_path: Path, shape: tuple[int, int], kind: OutputKind) -> None:
    picture = drawn(*shape)
    put_all(opened(tmp_path / "a", *shape, kind), picture)
    again = opened(tmp_path / "a", *shape, kind)
    assert again.pending() == []
    assert again.skipped() == []
    generator = np.random.default_rng(0)
    for _ in range(5):
        top, left = (int(generator.integers(0, side)) for side in shape)
        height, width = int(generator.integers(1, shape[0] - top + 1)), int(generator.integers(1, shape[1] - left + 1))
        read = again.read(Rect(top=top, left=left, height=height, width=width))
        assert np.array_equal(read, picture[top : top + height, left : left + width])
    with pytest.raises(SchemaError, match="is not inside"):
        again.read(Rect(top=0, left=1, height=1, width=shape[1]))


@pytest.mark.parametrize("side", [80, 144, 208, 976, 1024])
def test_cores_of_any_multiple_of_16_have_output_tiles(tmp_path: Path, side: int) -> None:
    picture = drawn(side + 9, side + 100)
    spool = opened(tmp_path / "a", side + 9, side + 100, side=side)
    put_all(spool, picture)
    assert side % spool.plan.tile == 0
    assert np.array_equal(spool.read(whole(spool)), picture)


def test_the_same_files_whatever_the_order_and_however_many_write(tmp_path: Path) -> None:
    picture = drawn(300, 1500)
    one = opened(tmp_path / "one", 300, 1500)
    put_all(one, picture)
    many = [opened(tmp_path / "many", 300, 1500) for _ in range(2)]  # as two processes have it
    jobs = [(many[n % 2], unit) for n, unit in enumerate(reversed([*one.base.units, *one.base.units]))]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda job: put_all(job[0], picture, [job[1]]), jobs))
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    assert many[0].pending() == many[1].pending() == []


def _flip(place: int) -> Callable[[Path], object]:
    def flip(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[place] ^= 4
        file.write_bytes(data)

    return flip


@pytest.mark.parametrize(
    "damage",
    [
        _flip(0),
        _flip(50),
        _flip(-1),
        Path.unlink,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes() + b"0"),
        lambda file: file.write_bytes(file.read_bytes().replace(b"\n", b"", 1)),
        lambda file: file.write_bytes(b"[1]\n" + file.read_bytes()),
    ],
)
def test_a_damaged_unit_is_found_and_made_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    picture = drawn(100, 2000)
    spool = opened(tmp_path / "a", 100, 2000)
    put_all(spool, picture)
    before, second = contents(tmp_path / "a"), spool.base.units[1]
    spool.read(whole(spool))
    damage(tmp_path / "a" / "level-0" / second.name)
    again = opened(tmp_path / "a", 100, 2000)
    assert again.pending() == [second]
    with pytest.raises(StoreError, match="the same command makes it again"):
        again.read(whole(again))
    put_all(again, picture)
    assert contents(tmp_path / "a") == before
    assert np.array_equal(again.read(whole(again)), picture)


@pytest.mark.parametrize(
    "other", ["level-0/000000-000000.unit", "level-0/000001-000016.unit", "level-1/000000-000000.unit"]
)
def test_the_file_of_another_unit_or_level_is_found(tmp_path: Path, other: str) -> None:
    """As if a disk, or a person, had moved it."""
    picture = drawn(150, 2000)
    spool = opened(tmp_path / "a", 150, 2000)
    put_all(spool, picture)
    levels = spool.levels()
    make_level(levels[1], levels[0], lambda _: None)
    unit = spool.base.units[2]
    shutil.copy(tmp_path / "a" / other, tmp_path / "a" / "level-0" / unit.name)
    again = opened(tmp_path / "a", 150, 2000)
    assert again.pending() == [unit]
    with pytest.raises(StoreError, match=f"is the file of another place, {other}; the same command makes it again"):
        again.read(whole(again))
    put_all(again, picture)
    assert np.array_equal(again.read(whole(again)), picture)


def test_a_unit_that_is_put_again_is_read_as_it_is_now(tmp_path: Path) -> None:
    spool = opened(tmp_path / "a", 100, 100)
    for picture in (drawn(100, 100), drawn(101, 100)[1:]):
        put_all(spool, picture, spool.base.units)
        assert np.array_equal(spool.read(whole(spool)), picture)


def test_skipped_cores_are_white_and_counted(tmp_path: Path) -> None:
    picture = drawn(200, 200)
    for kind in (*LOSSLESS, OutputKind.OME_TIFF):
        spool = opened(tmp_path / "a", 200, 200, kind)
        for unit in spool.pending():
            given = cores(spool.plan, unit, picture)
            spool.put(unit, [None if column == unit.row else core for column, core in enumerate(given)])
        expected = picture.copy()
        for n in range(4):
            expected[64 * n : 64 * (n + 1), 64 * n : 64 * (n + 1)] = 255
        assert np.array_equal(spool.read(whole(spool)), expected)
        assert spool.skipped() == [(n, n) for n in range(4)]


def test_a_core_of_another_size_is_refused(tmp_path: Path) -> None:
    spool = opened(tmp_path / "a", 100, 100)
    (first, second) = spool.pending()
    with pytest.raises(SchemaError, match=r"cores of \[\(64, 64, 3\), \(64, 64, 3\)\].* \(64, 36, 3\)"):
        spool.put(first, [drawn(64, 64), drawn(64, 64)])
    assert spool.pending() == [first, second]


def test_units_are_up_to_16_cores_of_a_row_and_fewer_of_large_ones() -> None:
    plan = plan_spool(OutputKind.PNG, 10, 40 * 64, 64, "")
    assert [unit.count for unit in Spool(Path("nowhere"), plan).base.units] == [16, 16, 8]
    for side, count in ((512, 16), (1024, 4), (1040, 3), (2048, 1), (8192, 1)):
        plan = plan_spool(OutputKind.PNG, 10, 40 * side, side, "")
        assert Spool(Path("nowhere"), plan).base.units[0].count == count


def test_plans_that_cannot_be_are_refused() -> None:
    with pytest.raises(SchemaError, match="cores of 100 px: the side must be a multiple of 16 px"):
        output_tile(100)
    right = SpoolPlan(height=9, width=9, side=64, tile=64, packing=Packing.RAW)
    with pytest.raises(SchemaError, match="both must be at least 1"):
        replace(right, height=0)
    with pytest.raises(SchemaError, match="must be a multiple of 16 and divide the core"):
        replace(right, tile=48)
    with pytest.raises(SchemaError, match="JPEG quality 101: must be between 1 and 100"):
        replace(right, quality=101)


def test_another_plan_starts_anew_and_a_folder_that_is_no_spool_stays(tmp_path: Path) -> None:
    folder = tmp_path / "a.partial"
    put_all(opened(folder, 100, 100), drawn(100, 100))
    (folder / "moments").mkdir()
    (folder / "moments" / "a").touch()
    assert opened(folder, 100, 100).pending() == []
    assert (folder / "moments" / "a").exists()
    other = Spool.open(folder, plan_spool(OutputKind.OME_TIFF, 100, 100, 64, "two"))
    assert len(other.pending()) == 2
    assert [path.name for path in folder.iterdir()] == ["plan.json"]
    put_all(other, drawn(100, 100))
    (folder / "plan.json").write_text("{")
    assert len(Spool.open(folder, other.plan).pending()) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(StoreError, match=r"mine is in the way: it holds no plan\.json; move it away"):
        Spool.open(tmp_path / "mine", other.plan)


@pytest.mark.parametrize("kind", [OutputKind.OME_TIFF, OutputKind.OME_ZARR])
@pytest.mark.parametrize("shape", [*SHAPES, (1100, 1500)], ids=str)
def test_levels_are_those_of_a_plain_pyramid(tmp_path: Path, shape: tuple[int, int], kind: OutputKind) -> None:
    picture = drawn(*shape)
    spool = opened(tmp_path / "a", *shape, kind)
    put_all(spool, picture)
    levels = spool.levels()
    expected = plain_halves(picture, len(levels) - 1)
    told = list[int]()
    for (below, level), pixels in zip(pairwise(levels), expected[1:], strict=True):
        make_level(level, below, told.append)
        assert np.array_equal(everything(level), pixels)
    assert sum(told) == sum(level.tiles.rows * level.tiles.columns for level in levels[1:])
    assert max(expected[-1].shape) <= max(64, 3)
    assert all(max(pixels.shape) > 64 for pixels in expected[:-1])


def test_levels_of_skipped_cores_are_white_without_a_tile(tmp_path: Path) -> None:
    """They are made of those that are there, as if all were pixels."""
    picture, plan = blurred(1300, 1100), plan_spool(OutputKind.OME_TIFF, 1300, 1100, 256, "")
    spool = Spool.open(tmp_path / "a", plan)
    for unit in spool.pending():
        spool.put(unit, [None if unit.row < 4 else core for core in cores(plan, unit, picture)])
    picture[: 4 * 256] = 255
    levels = spool.levels()
    for (below, level), pixels in zip(pairwise(levels), plain_halves(picture, 3)[1:], strict=True):
        make_level(level, below, lambda tiles: None)
        assert np.array_equal(everything(level), pixels)
    assert list(levels[1].skipped()) == [(0, 0), (0, 1)]
    assert [level.height for level in plan_levels(plan)] == [650, 325, 163]
