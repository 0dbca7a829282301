"""An open picture as it is translated: at its scale, all or a part of it, in tiles without those that show glass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from store.images import PictureU8
from store.schema import SettingsError
from store.slides.geometry import Grid, Rect
from store.slides.reading.open import open_source
from store.slides.reading.part import Part
from store.slides.reading.resampled import Resampled
from store.slides.seams import Place
from store.slides.source import Source
from store.slides.tissue import Mask, find_tissue, read_mask
from train.translate.plan import Sides, Window, measured_window, window_of
from train.translate.scale import Claim, Scale, Wish, choose_scale

AUTO, NONE = "auto", "none"  # of `--mask`; everything else is a file
LENDING = 0.25  # the share of tissue from which on a tile's statistics count for others: those of glass are noise
REGION = re.compile(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user wants of each picture: its scale, a region in pixels of that scale, which mask says what is tissue.

    The mask is `auto`, by the standard rule and for slides only, `none`, or a file.
    """

    wish: Wish = field(default_factory=Wish)
    region: Rect | None = None
    mask: str = AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture in tiles of `grid`; those that are `skipped` show no tissue.

    `masked` says what found the tissue, "" if all is translated; `tissue` is the share of it in a rectangle, whether
    the rest is translated or not; `glass` are the tiles with too little of it to lend statistics, found once.
    """

    source: Source
    scale: Scale
    grid: Grid
    skipped: frozenset[Place]
    masked: str
    shows_tissue: Callable[[Rect], bool]
    tissue: Callable[[Rect], float]
    glass: Callable[[], frozenset[Place]]

    @property
    def is_one_tile(self) -> bool:
        """Whether it goes through the generator as a whole."""
        return self.grid.rows == self.grid.columns == 1

    def window(self, place: Place, overlap: int, sides: Sides) -> Window:
        """The window of a tile."""
        return window_of(self.grid.tile(*place), self.grid.height, self.grid.width, overlap, sides)

    def measured(self, place: Place, sides: Sides) -> Window:
        """The window in which the statistics of a tile are measured."""
        grid = self.grid
        return measured_window(grid.tile(*place), grid.height, grid.width, grid.side, sides)

    def lending(self) -> Picture:
        """The picture without tiles of glass, whose statistics say nothing of tissue; itself if it has no others.

        A few specks on glass have a small deviation: divided by it, the tissue of the tile beside it would be stained.
        """
        left_out = self.glass() | self.skipped
        if len(left_out) == self.grid.rows * self.grid.columns:
            return self
        return replace(self, skipped=left_out, shows_tissue=lambda rect: self.tissue(rect) >= LENDING)

    def read(self, window: Window) -> PictureU8:
        """The pixels of a window, u8 [H,W,3], in memory of their own."""
        return np.require(window.fill(self.source.read(window.read)), requirements=["C", "W"])


@contextmanager
def opened(path: Path, request: Request, trained: Mapping[str, float], tile: int, memory: int) -> Iterator[Picture]:
    """A picture for a generator that was trained at these scales, in tiles of `tile` px, for a block.

    Raises PictureError, SchemaError and SettingsError, in one line.
    """
    with closing(open_source(path, memory)) as source:
        claim = Claim(path=path, mpp=source.mpp, is_slide=source.is_slide, mpp_from=source.mpp_from)
        scale = choose_scale(claim, trained, request.wish)
        whole: Source = Part.whole(source, request.wish.said)
        if scale.resampled:
            assert scale.translated is not None
            whole = Resampled(whole, scale.translated)
        region = _inside(request.region, whole)
        shows_tissue, tissue, masked = _tissue(request.mask, whole, region)
        grid = Grid(height=region.height, width=region.width, side=tile)
        skipped = frozenset(place for place in grid.places() if not shows_tissue(grid.tile(*place)))
        if len(skipped) == grid.rows * grid.columns:
            raise SettingsError(
                f"{path}: shows no tissue, so nothing would be translated; --mask none translates all of it, "
                "--mask FILE says where tissue is"
            )

        @cache
        def glass() -> frozenset[Place]:
            return frozenset(place for place in grid.places() if tissue(grid.tile(*place)) < LENDING)

        yield Picture(
            source=Part(source=whole, part=region),
            scale=scale,
            grid=grid,
            skipped=skipped,
            masked=masked,
            shows_tissue=shows_tissue,
            tissue=tissue,
            glass=glass,
        )


def parse_region(text: str) -> Rect:
    """`TOP,LEFT,HEIGHT,WIDTH` as a rectangle. Raises SettingsError.

    >>> parse_region("0,16,512,256")
    Rect(top=0, left=16, height=512, width=256)
    """
    found = REGION.fullmatch(text)
    numbers = [int(number) for number in found.groups()] if found else []
    if not numbers or min(numbers[2:]) < 1:
        raise SettingsError(
            f"--region {text}: give TOP,LEFT,HEIGHT,WIDTH in pixels of the picture, height and width at least 1, e.g. "
            "0,0,2048,2048"
        )
    top, left, height, width = numbers
    return Rect(top=top, left=left, height=height, width=width)


def _inside(region: Rect | None, whole: Source) -> Rect:
    """The region, or all of the picture."""
    if region is None:
        return Rect(top=0, left=0, height=whole.height, width=whole.width)
    if not region.is_inside(whole.height, whole.width):
        raise SettingsError(
            f"--region {region.top},{region.left},{region.height},{region.width} ends at row {region.bottom}, column "
            f"{region.right}, outside {whole.path}, which is translated at {whole.height} x {whole.width} px "
            "(height x width)"
        )
    return region


def _tissue(mask: str, whole: Source, region: Rect) -> tuple[Callable[[Rect], bool], Callable[[Rect], float], str]:
    """Whether a rectangle of the region shows tissue, how much of it, and what says so: "" where all is translated."""

    @cache
    def found() -> Mask:
        return find_tissue(whole) if mask in (AUTO, NONE) else read_mask(Path(mask), whole.height, whole.width)

    def placed(rect: Rect) -> Rect:
        return Rect(top=rect.top + region.top, left=rect.left + region.left, height=rect.height, width=rect.width)

    def share(rect: Rect) -> float:
        return found().share_in(placed(rect))

    if mask == NONE or (mask == AUTO and not whole.is_slide):
        return lambda _: True, share, ""
    return lambda rect: found().covers(placed(rect)), share, mask
