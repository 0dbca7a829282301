"""Finished units of a picture: written in any order, by several, read in parts; damaged ones are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from store.images import PictureU8
from store.schema import SchemaError, StoreError
from store.slides.geometry import Rect
from store.slides.writing.plan import OutputKind, SpoolPlan, Unit, plan_spool
from store.slides.writing.spool import Spool

SHAPES = [(1, 1), (1, 5000), (300, 517), (64, 64), (129, 65)]
LOSSLESS = [OutputKind.PNG, OutputKind.OME_TIFF, OutputKind.OME_ZARR]


def drawn(height: int, width: int) -> PictureU8:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), dtype=np.uint8)


def cores(plan: SpoolPlan, unit: Unit, picture: PictureU8) -> list[PictureU8 | None]:
    rects = [plan.grid.tile(*place) for place in unit.places()]
    return [picture[rect.top : rect.bottom, rect.left : rect.right] for rect in rects]


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_rectangle_is_read_back(tmp_path: Path, shape: tuple[int, int], kind: OutputKind) -> None:
    plan, picture = plan_spool(kind, *shape, 64, "one"), drawn(*shape)
    spool = Spool.open(tmp_path / "a.partial", plan)
    for unit in reversed(spool.pending()):
        spool.put(unit, cores(plan, unit, picture))
    again = Spool.open(tmp_path / "a.partial", plan)
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


def test_units_are_up_to_16_cores_of_a_row_and_fewer_of_large_ones() -> None:
    plan = plan_spool(OutputKind.PNG, 10, 40 * 64, 64, "")
    assert [unit.count for unit in Spool(Path("nowhere"), plan).base.units] == [16, 16, 8]
    for side, count in ((1024, 16), (1040, 15), (2048, 4), (8192, 1)):
        plan = plan_spool(OutputKind.PNG, 10, 40 * side, side, "")
        assert Spool(Path("nowhere"), plan).base.units[0].count == count


def test_another_plan_starts_anew_and_a_folder_that_is_no_spool_stays(tmp_path: Path) -> None:
    folder = tmp_path / "a.partial"
    plan = plan_spool(OutputKind.PNG, 100, 100, 64, "one")
    spool = Spool.open(folder, plan)
    for unit in spool.pending():
        spool.put(unit, cores(plan, unit, drawn(100, 100)))
    (folder / "moments").mkdir()
    (folder / "moments" / "a").touch()
    assert Spool.open(folder, plan).pending() == []
    assert (folder / "moments" / "a").exists()
    other = Spool.open(folder, plan_spool(OutputKind.PNG, 100, 100, 64, "two"))
    assert len(other.pending()) == 2
    assert [path.name for path in folder.iterdir()] == ["plan.json"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(StoreError, match=r"mine is in the way: it holds no plan\.json; move it away"):
        Spool.open(tmp_path / "mine", plan)
