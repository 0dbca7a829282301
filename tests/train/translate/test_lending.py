"""Whose statistics count for others: tiles of tissue, not of glass, whether glass is translated or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from store.images import PictureU8, read_picture, write_png
from store.slides.seams import Place
from tests.support.command_line import Outcome
from tests.support.stores import draw_tile
from train.translate.picture import Picture, Request, opened
from train.translate.statistics import CROP

Translate: TypeAlias = Callable[..., Outcome]
SIDE = 128


def lay(path: Path, *columns: str) -> Path:
    """A picture of a row of squares, of tissue, glass with noise, or glass with a strip of tissue."""
    glass = np.random.default_rng(0).integers(241, 246, (SIDE, SIDE, 3), np.uint8)
    tissue = draw_tile(SIDE, 7)
    tissue = np.minimum(tissue, 200)
    speck: PictureU8 = glass.copy()
    speck[:, : SIDE // 8] = tissue[:, : SIDE // 8]
    kinds = {"tissue": tissue, "glass": glass, "speck": speck}
    write_png(path, np.hstack([kinds[column] for column in columns]))
    return path


def skipped(path: Path, mask: str = "none") -> tuple[frozenset[Place], frozenset[Place]]:
    """The tiles that are not translated, and those that lend no statistics."""
    with opened(path, Request(mask=mask), {}, SIDE, 1 << 28) as picture:
        return picture.skipped, picture.lending().skipped


def test_tiles_of_glass_lend_no_statistics_and_are_translated(tmp_path: Path) -> None:
    path = lay(tmp_path / "a.png", "tissue", "glass", "speck", "tissue")
    assert skipped(path) == (frozenset(), frozenset({(0, 1), (0, 2)}))
    assert skipped(path, mask="auto") == skipped(path), "of a plain picture everything is translated"


def test_where_there_is_only_glass_it_has_its_own_statistics(tmp_path: Path) -> None:
    assert skipped(lay(tmp_path / "a.png", "glass", "glass")) == (frozenset(), frozenset())


def test_a_mask_of_the_user_says_what_lends(tmp_path: Path) -> None:
    path = lay(tmp_path / "a.png", "tissue", "tissue", "glass", "glass")
    mask = np.zeros((SIDE, 4 * SIDE, 3), np.uint8)
    mask[:, SIDE : 2 * SIDE + 8] = 255
    write_png(tmp_path / "mask.png", mask)
    left, right = (0, 0), (0, 3)
    assert skipped(path, str(tmp_path / "mask.png")) == (frozenset({left, right}), frozenset({left, (0, 2), right}))


def test_a_picture_that_lends_is_otherwise_the_same(tmp_path: Path) -> None:
    with opened(lay(tmp_path / "a.png", "tissue", "glass"), Request(), {}, SIDE, 1 << 28) as picture:
        lends: Picture = picture.lending()
        assert (lends.grid, lends.scale, lends.masked) == (picture.grid, picture.scale, picture.masked)
        assert [lends.shows_tissue(picture.grid.tile(0, column)) for column in (0, 1)] == [True, False]
        assert [picture.shows_tissue(picture.grid.tile(0, column)) for column in (0, 1)] == [True, True]


def test_another_glass_changes_no_tissue(translate: Translate) -> None:
    tissue, made = np.minimum(draw_tile(1024, 7)[:64], 200), []
    for seed in (0, 1):
        glass = np.random.default_rng(seed).integers(230, 250, (64, CROP, 3), np.uint8)
        write_png(Path(f"{seed}.png"), np.hstack([tissue, glass]))
        words = ("--norm-statistics", "global", "--set", "sample=3", "--out", f"o{seed}.png")
        assert translate(f"{seed}.png", *words).code == 0
        made.append(read_picture(Path(f"o{seed}.png")))
    np.testing.assert_array_equal(made[0][:, :CROP], made[1][:, :CROP])
    assert (made[0] != made[1]).any()


def test_the_sample_does_not_depend_on_the_tiles(translate: Translate) -> None:
    """Nor does what it makes of them, to a grey level: the statistics are the same."""
    write_png(Path("a.png"), draw_tile(192, 7))
    for side in (64, 96):
        words = ("--norm-statistics", "global", "--set", f"tile={side}", "--set", "overlap=64", "--out", f"{side}.png")
        assert translate("a.png", *words).code == 0
    small, large = (read_picture(Path(f"{side}.png")).astype(int) for side in (64, 96))
    assert np.abs(small - large).max() <= 1
