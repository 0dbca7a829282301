"""Squares on a grid: inside the picture, nothing covered twice without need, nothing made up."""

from __future__ import annotations

import numpy as np
import pytest

from prep.settings import Edge, Layout, PrepSettings
from prep.tiles.squares import WHOLE, Cutting, Field, count_cut, cutting_of, describe_cut, plan_squares
from prep.views import check_tile_side, cut_to_fit
from store.schema import SchemaError, SettingsError


def cutting(side: int, stride: int, edge: Edge) -> Cutting:
    return Cutting(side=side, stride=stride, edge=edge, halves=False)


@pytest.mark.parametrize("edge", Edge)
@pytest.mark.parametrize("seed", range(30))
def test_squares_lie_inside_and_the_area_that_none_holds_is_counted(seed: int, edge: Edge) -> None:
    """Against a mask of the picture, one pixel after the other."""
    generator = np.random.default_rng(seed)
    side, stride, height, width = (int(n) for n in generator.integers((4, 1, 4, 4), (20, 30, 60, 60)))
    how, field = cutting(side, stride, edge), Field(height=height, width=width, uneven=0)
    boxes, mask = plan_squares(how, field), np.zeros((height, width), bool)
    for box in boxes:
        assert box.top + box.side <= height
        assert box.left + box.side <= width
        assert box.side == side
        mask[box.top : box.top + side, box.left : box.left + side] = True
    assert len(set(boxes)) == len(boxes)
    assert bool(boxes) == (min(height, width) >= side)
    if edge is Edge.SHIFT and boxes:
        assert mask[-1].any()
        assert mask[:, -1].any()
        assert stride > side or mask.all()
    if edge is Edge.DROP:
        assert all(box.top % stride == 0 and box.left % stride == 0 for box in boxes)
        assert len(boxes) == max(0, (height - side) // stride + 1) * max(0, (width - side) // stride + 1)
    assert count_cut(how, [field], squares=len(boxes)).left_out == pytest.approx(1 - mask.mean())


def test_what_was_cut_is_said() -> None:
    how = cutting(1000, 1000, Edge.DROP)
    fields = [Field(height=3000, width=3000, uneven=0), Field(height=2990, width=3400, uneven=7)]
    cut = count_cut(how, fields, squares=sum(len(plan_squares(how, field)) for field in fields))
    assert (cut.squares, cut.pictures, cut.uneven, cut.slack) == (15, 2, 1, 7)
    assert describe_cut(cut) == (
        "15 squares of 1000 px cut from 2 pairs of pictures; edge=drop, 21.7% of their area is in no square (none with "
        "--set edge=shift (make: SET=edge=shift)); of 1 pairs the H&E and the IHC picture differ by up to 7 px, and "
        "what both have from the top left is used"
    )


def test_a_picture_is_one_tile_unless_a_side_is_set() -> None:
    assert cutting_of(PrepSettings()) == WHOLE
    assert not WHOLE
    delivered = cutting_of(PrepSettings(name_stride=256))
    assert (bool(delivered), delivered.name_stride) == (False, 256)
    how = cutting_of(PrepSettings(tile_side=512, layout=Layout.SIDE_BY_SIDE))
    assert (how.side, how.stride, how.edge, how.halves) == (512, 512, Edge.DROP, True)


@pytest.mark.parametrize(
    "changes", [{"tile_side": -8}, {"stride": -1}, {"name_stride": -1}, {"stride": 5}, {"edge": Edge.SHIFT}]
)
def test_settings_that_cut_nothing_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"must be at least 0|(edge = shift|stride = 5) .*--set tile_side=512"):
        PrepSettings(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("side", "view", "said"),
    [
        (1020, 512, r"nearest that do: 1016, 1024; .*--set tile_side=1016"),
        (5, 512, r"nearest that do: 8; .*--set tile_side=8"),
        (256, 512, r"smaller than view_side 512 px.*--set view_side=128"),
    ],
)
def test_a_side_that_does_not_fit_names_the_one_that_does(side: int, view: int, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        check_tile_side(PrepSettings(tile_side=side, view_side=view))


@pytest.mark.parametrize(
    ("sides", "setting"),
    [
        ((3000, 2990), "tile_side=1024"),
        ((700,), "tile_side=512"),
        ((300, 700), "tile_side=512"),  # the smaller picture has room for none
        ((400,), "tile_side=400 --set view_side=200"),
        ((31,), ""),
        ((), ""),
    ],
)
def test_the_setting_that_fits_is_named(sides: tuple[int, ...], setting: str) -> None:
    said = cut_to_fit(PrepSettings(), sides)
    assert said.startswith(f"--set {setting} (make: ") if setting else said == ""
