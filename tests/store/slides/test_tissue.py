"""Where tissue is: drawn slides whose truth is known, real ones against numbers, and masks of users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from store.images import PictureU8, read_picture
from store.schema import PictureError, SchemaError
from store.slides.geometry import Grid, Rect
from store.slides.tissue import Mask, find_tissue, otsu, read_mask, tissue_in
from tests.support.places import SHARED, needs_shared
from tests.support.stores import draw_tile

GLASS = (243, 243, 242)


def slide(colour: tuple[int, int, int] = GLASS, height: int = 300, width: int = 400) -> PictureU8:
    """Glass of a colour with a camera's noise, u8 [H,W,3]."""
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("glass", [GLASS, (255, 255, 255), (245, 240, 233), (232, 232, 234)])
def test_a_slide_of_glass_alone_has_no_tissue(glass: tuple[int, int, int]) -> None:
    assert not tissue_in(slide(glass)).any()


@pytest.mark.parametrize("colour", [(200, 120, 170), (120, 80, 150), (170, 120, 80), (120, 120, 120), (215, 200, 212)])
def test_a_slide_of_tissue_alone_is_all_tissue(colour: tuple[int, int, int]) -> None:
    assert tissue_in(slide(colour)).all()


def test_tissue_whose_stain_varies_is_not_cut_in_two() -> None:
    shades = np.linspace((60, 30, 90), (225, 195, 220), 400).astype(np.uint8)  # where Otsu alone finds 58 %
    assert tissue_in(np.broadcast_to(shades, (300, 400, 3)).copy()).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("colour", [(220, 190, 215), (140, 90, 160), (180, 140, 110), (205, 210, 222)])
def test_pieces_of_tissue_are_found_to_their_borders(seed: int, colour: tuple[int, int, int]) -> None:
    picture, truth = slide(), np.zeros((300, 400), np.uint8)
    for x, y, size in np.random.default_rng(seed).integers((60, 60, 12), (340, 240, 50), (3, 3)):
        cv2.circle(truth, (int(x), int(y)), int(size), 1, -1)
    picture[truth == 1] = np.clip(picture[truth == 1].astype(int) - GLASS + colour, 0, 255)
    found = tissue_in(picture)
    grown = cv2.dilate(truth, np.ones((5, 5), np.uint8))
    assert found[truth == 1].all()
    assert not found[grown == 0].any()


def test_dust_is_no_tissue_and_small_gaps_are() -> None:
    picture = slide()
    picture[100:103, 100:103] = (120, 60, 120)  # 9 px
    assert not tissue_in(picture).any()
    picture[150:250, 150:250] = (120, 60, 120)
    picture[200:205, 200:205] = GLASS
    picture[170:190, 170:190] = GLASS
    found = tissue_in(picture)
    assert found[200:205, 200:205].all()
    assert not found[172:188, 172:188].any()  # a lumen, larger than `HOLE`


@pytest.mark.parametrize(("ink", "is_tissue"), [((25, 25, 30), False), ((20, 60, 160), True), ((20, 120, 60), True)])
def test_black_borders_and_pens_are_no_tissue_and_coloured_pens_are(ink: tuple[int, int, int], is_tissue: bool) -> None:
    picture = slide()
    picture[:, :40] = ink
    cv2.line(picture, (100, 50), (300, 220), ink, 12)
    found = tissue_in(picture)
    assert (found[60, 110], found[150, 20]) == (is_tissue, is_tissue)
    assert not found[250:, 60:].any()


def test_drawn_tissue_is_found_wherever_it_lies_on_a_slide() -> None:
    picture = slide(height=512, width=512)
    picture[128:384, 256:512] = draw_tile(256, 0, 0)
    found = Mask(tissue=tissue_in(picture), height=512, width=512)
    grid = Grid(height=512, width=512, side=128)
    covered = {place for place in grid.places() if found.covers(grid.tile(*place))}
    assert covered >= {(row, column) for row in (1, 2) for column in (2, 3)}
    assert not covered & {(row, 0) for row in range(4)}


def test_the_threshold_is_that_of_the_definition() -> None:
    for seed in range(20):
        levels = np.random.default_rng(seed).integers(0, 256, 50).astype(np.uint8)
        best = max(
            range(256),
            key=lambda level: (
                (low := levels[levels <= level].astype(float)).size
                * (high := levels[levels > level].astype(float)).size
                * ((low.mean() - high.mean()) ** 2 if low.size and high.size else 0.0)
            ),
        )
        assert otsu(levels) == best


@dataclass(frozen=True, slots=True)
class Pixels:
    """A picture in memory, as far as a mask looks at a source."""

    pixels: PictureU8
    times: int

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0]) * self.times

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1]) * self.times

    def overview(self, side: int) -> PictureU8:
        assert side >= max(self.pixels.shape)
        return self.pixels


def test_the_black_border_of_a_scan_does_not_hide_faint_tissue() -> None:
    picture = np.full((300, 400, 3), 240, np.uint8)
    picture[100:200, 100:200] = (230, 215, 230)
    alone = tissue_in(picture)
    assert alone[150, 150]
    picture[:, 300:] = 5
    beside = tissue_in(picture)
    np.testing.assert_array_equal(beside[:, :290], alone[:, :290])
    assert not beside[:, 310:].any()


def test_a_mask_is_of_the_whole_picture_of_which_it_saw_an_overview() -> None:
    picture = slide()
    picture[100:200, 100:200] = (120, 60, 120)
    found = find_tissue(Pixels(picture, 50))  # type: ignore[arg-type] # a part of a Source
    assert (found.height, found.width) == (15000, 20000)
    assert found.covers(Rect(top=9000, left=9000, height=1, width=1))
    assert not found.covers(Rect(top=0, left=0, height=15000, width=4900))
    assert found.tissue.mean() == pytest.approx(102 * 102 / (300 * 400), abs=2e-4)


@pytest.mark.parametrize("seed", range(6))
def test_the_tissue_of_a_tile_is_that_of_the_pixels_of_the_mask_that_it_touches(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows, columns, height, width = (int(n) for n in generator.integers((1, 1, 20, 20), (40, 40, 60, 60)))
    mask = Mask(tissue=generator.random((rows, columns)) < 0.1, height=height, width=width)
    for _ in range(50):
        top, left, tall, wide = (int(n) for n in generator.integers((-5, -5, 1, 1), (height, width, 20, 20)))
        touched = [
            mask.tissue[row, column]
            for row in range(rows)
            for column in range(columns)
            if row * height < (top + tall) * rows
            and (row + 1) * height > max(top, 0) * rows
            and column * width < (left + wide) * columns
            and (column + 1) * width > max(left, 0) * columns
        ]
        rect = Rect(top=top, left=left, height=tall, width=wide)
        assert mask.covers(rect) == any(touched)
        assert mask.share_in(rect) == pytest.approx(np.mean(touched) if touched else 0.0)


def save(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("value", [1, 7, 255])
@pytest.mark.parametrize("shape", [(60, 80), (120, 160), (15, 20), (61, 80), (7, 10), (600, 801)])
def test_a_mask_of_the_user_is_the_picture_or_the_picture_in_small(
    tmp_path: Path, shape: tuple[int, int], value: int, suffix: str
) -> None:
    drawn = np.zeros(shape, np.uint8)
    drawn[: shape[0] // 2, : shape[1] // 2] = value
    mask = read_mask(save(tmp_path / f"mask.{suffix}", drawn), 60, 80)
    assert np.array_equal(mask.tissue, drawn > 0)
    assert mask.covers(Rect(top=0, left=0, height=20, width=30))
    assert not mask.covers(Rect(top=35, left=0, height=25, width=80))


@pytest.mark.parametrize("shape", [(80, 60), (60, 60), (30, 45), (63, 80), (600, 900)])
def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = save(tmp_path / "mask.png", np.full(shape, 255, np.uint8))
    with pytest.raises(SchemaError, match=rf"mask.png: .* {shape[0]} x {shape[1]} px .* picture 60 x 80 px"):
        read_mask(path, 60, 80)


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"empty.png: is 0 everywhere"):
        read_mask(save(tmp_path / "empty.png", np.zeros((60, 80), np.uint8)), 60, 80)
    with pytest.raises(SchemaError, match=r"labels.png: has colours"):
        read_mask(save(tmp_path / "labels.png", np.tile(np.array([0, 0, 200], np.uint8), (60, 80, 1))), 60, 80)
    with pytest.raises(SchemaError, match=r"lossy.jpg: a mask in a JPEG .* save it as PNG"):
        read_mask(save(tmp_path / "lossy.jpg", np.full((60, 80), 255, np.uint8)), 60, 80)
    with pytest.raises(PictureError, match=r"deep.png: .*16"):
        read_mask(save(tmp_path / "deep.png", np.full((60, 80), 60000, np.uint16)), 60, 80)
    with pytest.raises(PictureError, match=r"nowhere.png: no such file"):
        read_mask(tmp_path / "nowhere.png", 60, 80)
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(PictureError, match=r"text.png"):
        read_mask(tmp_path / "text.png", 60, 80)


REAL = {  # share of tissue, measured with the rule as it is and looked at
    "data/histolab/tiles/almost-white-2.png": 0.028,
    "data/histolab/tiles/high-nuclei-score-level0.png": 0.992,
    "data/histolab/tiles/medium-nuclei-score-level1.png": 0.634,
    "data/birl/rat-kidney_/scale-5pc/Rat-Kidney_HE.jpg": 0.632,
    "data/birl/rat-kidney_/scale-5pc/Rat-Kidney_PanCytokeratin.jpg": 0.591,
}


@needs_shared
@pytest.mark.parametrize("name", REAL)
def test_real_pictures_have_the_share_that_was_looked_at(name: str) -> None:
    assert tissue_in(read_picture(SHARED / name)).mean() == pytest.approx(REAL[name], abs=0.005)
