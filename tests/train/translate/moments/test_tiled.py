"""With given moments, a picture that is translated in tiles is the one that is translated as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from store.slides.geometry import Grid, Rect
from tests.train.translate.moments.generators import drawn_generator, drawn_picture, small_settings
from train.networks.reach import reach_of
from train.run.inference import translation_mode
from train.translate.moments.collect import Generator, collect, collect_together, layout_of
from train.translate.moments.field import Field
from train.translate.moments.given import translate_given
from train.translate.moments.table import local_field
from train.translate.plan import Sides, Window, measured_window, window_of

METHODS = ("attention_gan", "twice", "asp", "cut", "cyclegan", "pix2pix", "pyramid_p2p")
FieldOf = Callable[[Rect], Field]


def cut(picture: Tensor, window: Window) -> Tensor:
    """What goes through the generator of a picture, signed [1,3,H,W], for a window."""
    read = window.read
    pixels: Any = picture[0, :, read.top : read.bottom, read.left : read.right].permute(1, 2, 0).numpy()
    filled = window.fill(pixels)  # which mirrors any numbers
    return torch.from_numpy(np.ascontiguousarray(filled)).permute(2, 0, 1)[None]


def translated(generator: Generator, picture: Tensor, side: int, overlap: int, field_of: FieldOf) -> Tensor:
    """A picture in tiles of `side` px, signed [1,3,H,W]."""
    sides = Sides(multiple=generator.multiple, least=2 * generator.multiple)
    grid = Grid(height=picture.shape[2], width=picture.shape[3], side=side)
    result = torch.full_like(picture, torch.nan)
    for place in grid.places():
        core = grid.tile(*place)
        window = window_of(core, grid.height, grid.width, overlap, sides)
        seen = Rect(top=window.read.top, left=window.read.left, height=window.height, width=window.width)
        made = translate_given(generator, cut(picture, window), field_of(seen))
        result[..., core.top : core.bottom, core.left : core.right] = made[..., *window.kept]
    return result


def moments_of_tiles(generator: Generator, picture: Tensor, side: int) -> NDArray[np.float32]:
    """The table of a picture in tiles of `side` px; the last tile was skipped."""
    sides = Sides(multiple=generator.multiple, least=2 * generator.multiple)
    grid = Grid(height=picture.shape[2], width=picture.shape[3], side=side)
    windows = [measured_window(grid.tile(*at), grid.height, grid.width, side, sides) for at in grid.places()]
    rows = [collect(generator, cut(picture, window))[0].numpy() for window in windows]
    rows[-1] = np.full_like(rows[-1], np.nan)
    return np.array(rows).reshape(grid.rows, grid.columns, -1)


@pytest.mark.parametrize(
    ("method", "mode", "shape"),
    [
        *[(method, "global", (411, 45)) for method in METHODS],
        *[(method, "local", (38, 397)) for method in METHODS],
    ],
)
def test_tiled_is_whole(method: str, mode: str, shape: tuple[int, int]) -> None:
    """Odd sides, and tiles that are not multiples of what the generator halves."""
    settings = small_settings(method)
    generator = drawn_generator(settings)
    picture = drawn_picture(*shape)
    with translation_mode(generator, settings.at_test):
        layout, reach = layout_of(generator), reach_of(generator)
        height, width = (min(side, 192) // 32 * 32 for side in shape)
        everywhere = Field.everywhere(collect_together(generator, picture[:, :, :height, :width]), layout)
        table = moments_of_tiles(generator, picture, 80)

        def field_of(window: Rect) -> Field:
            return everywhere if mode == "global" else local_field(table, layout, 80, window)

        whole = translated(generator, picture, 512, 0, field_of)
        assert whole.isfinite().all()
        assert whole.std() > 0.01, "something is in it"
        tiled = translated(generator, picture, 67, reach, field_of)
        torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-4)
        little = reach // 4 // generator.multiple * generator.multiple
        short = translated(generator, picture, 80, little, field_of)
        assert (short - whole).abs().max() > 1e-4, "an overlap that is too small shows"


def test_tiled_is_whole_down_and_across() -> None:
    test_tiled_is_whole("attention_gan", "local", (203, 253))


def test_tiles_with_their_own_statistics_are_not() -> None:
    """What the other modes are measured against, in the same picture."""
    settings = small_settings("cyclegan")
    generator = drawn_generator(settings)
    picture = drawn_picture(128, 128)
    with translation_mode(generator, settings.at_test):
        layout = layout_of(generator)
        whole = translated(
            generator, picture, 128, 0, lambda _: Field.everywhere(collect(generator, picture)[0], layout)
        )

        def own(window: Rect) -> Field:
            seen = picture[:, :, window.top : window.bottom, window.left : window.right]
            return Field.everywhere(collect(generator, seen)[0], layout)

        whole, tiled = (translated(generator, picture, side, 0, own) for side in (128, 64))
        assert (tiled - whole).abs().max() > 0.1
