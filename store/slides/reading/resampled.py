"""A source at another scale."""

from __future__ import annotations

from dataclasses import dataclass, field

from store.images import PictureU8
from store.schema import PictureError
from store.slides.geometry import Rect
from store.slides.reading.derived import Derived
from store.slides.reading.scaling import SAME, Scaled, overview
from store.slides.source import Level, Source


@dataclass(frozen=True, slots=True)
class Resampled(Derived):
    """A source at `mpp` micrometres per pixel, made from that of its levels which is the next larger."""

    source: Source
    mpp: float
    scaled: Scaled = field(init=False)

    def __post_init__(self) -> None:
        if self.source.mpp is None:
            raise PictureError(f"{self.source.path}: says no micrometres per pixel; give them: --source-mpp NUMBER")
        step = self.mpp / self.source.mpp
        height, width = max(1, round(self.source.height / step)), max(1, round(self.source.width / step))
        factors = [(one, *_factors(self.source, one)) for one in self.source.levels]
        fitting = [one for one in factors if max(one[1:]) <= step * (1 + SAME)] or factors[:1]
        level, down, across = fitting[-1]
        scaled = Scaled(level=level, height=height, width=width, down=step / down, across=step / across)
        object.__setattr__(self, "scaled", scaled)

    @property
    def height(self) -> int:
        """Of the whole picture at this scale, px."""
        return self.scaled.height

    @property
    def width(self) -> int:
        """Of the whole picture at this scale, px."""
        return self.scaled.width

    @property
    def levels(self) -> tuple[Level, ...]:
        """Itself, and the levels of the source that are smaller."""
        smaller = [one for one in self.source.levels if one.height < self.height and one.width < self.width]
        return (self, *smaller)

    def read(self, rect: Rect) -> PictureU8:
        """The pixels of a rectangle that lies inside, u8 [H,W,3] RGB."""
        return self.scaled.read(rect)

    def overview(self, side: int) -> PictureU8:
        """The whole picture with a longer side of at most `side` px, u8 [h,w,3]."""
        return overview(self.levels, side)


def _factors(whole: Level, part: Level) -> tuple[float, float]:
    """How many px of the whole a px of a level covers, down and across: a whole number where rounding explains it.

    >>> from types import SimpleNamespace as Sides
    >>> _factors(Sides(height=1003, width=2001), Sides(height=250, width=500))
    (4, 4)
    """
    number = round(whole.height / part.height)
    sides = ((whole.height, part.height), (whole.width, part.width))
    if all(large // number <= small <= -(-large // number) for large, small in sides):
        return number, number
    return whole.height / part.height, whole.width / part.width
