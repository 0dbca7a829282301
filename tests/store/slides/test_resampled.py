"""Sources at another scale: pixels are functions of their place, and those of a slow plain version."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from store.images import PictureU8
from store.schema import PictureError
from store.slides.geometry import Rect
from store.slides.reading.open import open_source
from store.slides.reading.resampled import Resampled
from store.slides.reading.scaling import Scaled, overview
from tests.support.slides import MEMORY, draw, farthest, whole, write_ome_tiff, write_tiff

PIXELS = draw(151, 205)
STEPS = [0.25, 0.4999, 0.7, 0.999, 1.0, 1.0001, 1.31, 2.0, 2.5, 3.9, 4.0, 7.77, 100.0, 1000.0]


@dataclass
class Picture:
    """A level in memory, which knows how much of it was read at once."""

    pixels: PictureU8
    most: int = 0

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    def read(self, rect: Rect) -> PictureU8:
        assert rect.is_inside(self.height, self.width)
        self.most = max(self.most, rect.height * rect.width)
        return self.pixels[rect.top : rect.bottom, rect.left : rect.right]


def plain(pixels: NDArray[Any], count: int, step: float) -> NDArray[np.float64]:
    """Rows at another scale, one after the other."""
    size = len(pixels)
    rows = []
    for place in range(count):
        if step < 1:
            centre = (place + 0.5) * step - 0.5
            first = int(np.floor(centre))
            above, below = (pixels[min(max(row, 0), size - 1)] for row in (first, first + 1))
            rows.append(above * (1 - (centre - first)) + below * (centre - first))
        else:
            begin, end = place * step, min((place + 1) * step, size)
            parts = [(row, min(row + 1, end) - max(row, begin)) for row in range(int(begin), int(np.ceil(end)))]
            total = sum(part for _, part in parts)
            rows.append(sum(pixels[row] * part for row, part in parts) / total if parts else pixels[-1])
    return np.array(rows, dtype=np.float64)


def opened(source: Any, step: float) -> Resampled:
    return Resampled(source, source.mpp * step)


@pytest.mark.parametrize("step", STEPS)
def test_it_is_the_slow_plain_version(tmp_path: Path, step: float) -> None:
    scale = {"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}
    with closing(open_source(write_tiff(tmp_path / "a.tif", (PIXELS, scale)), MEMORY)) as source:
        other = opened(source, step)
        assert (other.height, other.width) == tuple(max(1, round(side / step)) for side in (151, 205))
        across = plain(PIXELS.transpose(1, 0, 2).astype(float), other.width, step).transpose(1, 0, 2)
        expected = plain(across, other.height, step)
        assert np.abs(whole(other) - expected).max() <= 0.5 + 1e-3
        assert other.mpp == pytest.approx(0.25 * step)


@pytest.mark.parametrize("step", STEPS)
def test_rectangles_agree_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """With blocks so small that no two rectangles are divided at the same places."""
    with closing(open_source(write_ome_tiff(tmp_path / "a.ome.tif", PIXELS), MEMORY)) as source:
        other = opened(source, step)
        complete = whole(other)
        monkeypatch.setattr("store.slides.reading.scaling.BLOCK", 700)
        random = np.random.default_rng(int(1000 * step))
        for _ in range(25):
            top, left = int(random.integers(other.height)), int(random.integers(other.width))
            height = int(random.integers(1, min(60, other.height - top) + 1))
            width = int(random.integers(1, min(60, other.width - left) + 1))
            part = other.read(Rect(top=top, left=left, height=height, width=width))
            assert (part == complete[top : top + height, left : left + width]).all()


def test_the_next_larger_level_is_read(tmp_path: Path) -> None:
    """Levels that differ from the means of the first one show which of them was read."""
    with closing(open_source(write_ome_tiff(tmp_path / "a.ome.tif", PIXELS), MEMORY)) as source:
        levels = [whole(level) for level in source.levels]
        assert (whole(opened(source, 1)) == levels[0]).all()
        assert (whole(opened(source, 2)) == levels[1][:, :102]).all()
        assert (whole(opened(source, 4)) == levels[2][:, :51]).all()
        halves = Scaled(level=Picture(levels[1]), height=50, width=68, down=1.5, across=1.5)
        assert (whole(opened(source, 3)) == whole(halves)).all()
        assert [level.height for level in opened(source, 2).levels] == [76, 38]


@pytest.mark.parametrize(("size", "level"), [((103, 203), (26, 51)), ((103, 203), (25, 50)), ((103, 203), (26, 50))])
def test_levels_that_were_rounded_keep_their_place(size: tuple[int, int], level: tuple[int, int]) -> None:
    """A level of 25 px of 103 has pixels of 4 px, not of 4.12: what is shown does not move, to its end."""

    @dataclass
    class Pyramid:
        levels: tuple[Picture, ...]
        mpp: float = 1.0
        height: int = size[0]
        width: int = size[1]

    ramp = np.repeat(np.arange(size[1], dtype=np.float64)[None, :, None], size[0], axis=0).repeat(3, axis=2)
    means = ramp[: level[0] * 4, : level[1] * 4]
    fours = [[np.minimum(n * 4 + k, size[1] - 1) for k in range(4)] for n in range(level[1])]
    small = np.repeat(np.array(fours).mean(axis=1)[None, :, None], level[0], axis=0).repeat(3, axis=2)
    assert means.size
    pyramid = Pyramid((Picture(ramp.astype(np.uint8)), Picture(np.rint(small).astype(np.uint8))))
    other = Resampled(pyramid, 4.0)  # type: ignore[arg-type] # what a source says besides is not asked for
    assert farthest(whole(other)[:25, : level[1]], np.rint(small).astype(np.uint8)[:25]) == 0
    other = Resampled(pyramid, 5.0)  # type: ignore[arg-type] # as above
    assert farthest(whole(other)[:20, :40], np.rint(ramp[:100, :200].reshape(20, 5, 40, 5, 3).mean(axis=(1, 3)))) <= 1


def test_memory_is_bounded_however_far_it_shrinks() -> None:
    picture = Picture(np.broadcast_to(np.full((1, 1, 3), 90, np.uint8), (6000, 9000, 3)))
    assert (overview([picture], 20) == 90).all()
    assert picture.most <= 5 << 20


def test_without_a_scale_it_is_asked_for(tmp_path: Path) -> None:
    with (
        closing(open_source(write_tiff(tmp_path / "a.tif", (PIXELS, {})), MEMORY)) as source,
        pytest.raises(PictureError, match="says no micrometres per pixel; give them: --source-mpp NUMBER"),
    ):
        Resampled(source, 0.5)
