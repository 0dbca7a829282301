"""Contact sheets: pictures are in their places, unchanged, and text stays inside its space."""

from __future__ import annotations

import numpy as np
import pytest

from store.contact_sheet import GAP, MARGIN, NARROWEST, PAPER, Row, draw_sheet
from store.schema import SchemaError

LONG = "a_name_without_any_space_that_is_far_too_long_" * 20


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sheet_of(*pictures: np.ndarray, side: int = 64, title: str = "title") -> np.ndarray:
    rows = [Row(label="row", pictures=pictures, captions=("caption",))]
    return draw_sheet(title=title, columns=["one", "two", "three"], rows=rows, footer="foot", side=side)


def place_of(sheet: np.ndarray, picture: np.ndarray) -> tuple[int, int]:
    high, wide = picture.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (high, wide, 3))[:, :, 0]
    tops, lefts = np.nonzero((windows[..., 0, 0, :] == picture[0, 0]).all(-1))
    found = [(t, left) for t, left in zip(tops, lefts, strict=True) if np.array_equal(windows[t, left], picture)]
    assert len(found) == 1, found
    return int(found[0][0]), int(found[0][1])


def test_pictures_of_the_sheet_side_are_shown_unchanged_and_side_by_side() -> None:
    pictures = [noise(64, 64, seed) for seed in range(3)]
    places = [place_of(sheet_of(*pictures), picture) for picture in pictures]
    assert len({top for top, _ in places}) == 1
    assert [left for _, left in places] == [MARGIN + n * (64 + GAP) for n in range(3)]


def test_a_larger_picture_is_averaged_and_a_smaller_one_shows_its_pixels() -> None:
    large, small = noise(128, 128, 1), noise(16, 16, 2)
    sheet = sheet_of(large, small)
    halved = np.rint(large.reshape(64, 2, 64, 2, 3).mean((1, 3)) - 1e-6)
    left, top = MARGIN, place_of(sheet, small.repeat(4, 0).repeat(4, 1))[0]
    shown = sheet[top : top + 64, left : left + 64].astype(float)
    assert np.abs(shown - halved).max() <= 1


def test_an_oblong_picture_keeps_its_proportions() -> None:
    assert place_of(sheet_of(noise(32, 64)), noise(32, 64)) == place_of(sheet_of(noise(64, 32)), noise(64, 32))


@pytest.mark.parametrize("text", [LONG, "word " * 300, "Größe µm 漢字 \n\t\x00 quo'te\" ½", ""])
def test_text_stays_inside_the_margins(text: str) -> None:
    rows = [Row(label=text, pictures=(noise(64, 64),), captions=(text,))]
    sheet = draw_sheet(title=text, columns=[text], rows=rows, footer=text, side=64)
    assert sheet.shape[1] == NARROWEST
    assert (sheet[:, : MARGIN - 2] == PAPER).all()
    assert (sheet[:, -MARGIN + 2 :] == PAPER).all()


def test_a_title_of_many_words_takes_more_lines_and_loses_none() -> None:
    one, many = sheet_of(noise(64, 64), title="word"), sheet_of(noise(64, 64), title="word " * 60)
    assert many.shape[0] > one.shape[0] + 50


def test_a_caption_is_as_wide_as_its_picture_at_most() -> None:
    rows = [Row(label="", pictures=(noise(64, 64), noise(64, 64)), captions=(LONG, ""))]
    sheet = draw_sheet(title="", columns=["", ""], rows=rows, footer="", side=64)
    below = sheet[place_of_rows(sheet)[1] :]
    assert (below[:22, MARGIN : MARGIN + 64] < 150).any()
    assert (below[:22, MARGIN + 64 + 2 :] == PAPER).all()


def place_of_rows(sheet: np.ndarray) -> tuple[int, int]:
    """First and one past the last line of the pictures: noise is the only thing in colour."""
    colour = (np.ptp(sheet.astype(int), axis=2) > 60).sum(axis=1) > 20
    lines = np.flatnonzero(colour)
    return int(lines[0]), int(lines[-1]) + 2


def test_a_white_picture_is_framed() -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    empty = sheet_of(white)
    assert (empty[:, MARGIN - 1, 0] < PAPER).sum() == 66


def test_the_same_sheet_twice_is_the_same() -> None:
    assert np.array_equal(sheet_of(noise(64, 64)), sheet_of(noise(64, 64)))


@pytest.mark.parametrize(
    ("picture", "told"),
    [(np.zeros((8, 8), np.uint8), r"\(8, 8\)"), (np.zeros((8, 8, 3)), "float64"), (noise(8, 8)[:0], r"\(0, 8, 3\)")],
)
def test_what_is_no_picture_is_refused(picture: np.ndarray, told: str) -> None:
    with pytest.raises(SchemaError, match=f"row 'r'.*{told}"):
        Row(label="r", pictures=(picture,))


def test_more_pictures_than_columns_and_more_captions_than_pictures_are_refused() -> None:
    with pytest.raises(SchemaError, match="2 captions for 1 pictures"):
        Row(label="r", pictures=(noise(8, 8),), captions=("a", "b"))
    with pytest.raises(SchemaError, match="4 pictures, the sheet 3 columns"):
        sheet_of(*[noise(8, 8)] * 4)
    with pytest.raises(SchemaError, match="0 columns"):
        draw_sheet(title="", columns=[], rows=[], footer="")
