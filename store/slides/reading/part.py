"""A source of which the user says more than its file: a part that is a picture of its own, or its scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

from store.images import PictureU8
from store.slides.geometry import Rect
from store.slides.reading.derived import Derived
from store.slides.reading.scaling import overview
from store.slides.source import Level, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Derived):
    """The rectangle `part` of a source, as a picture of its own; and, where it is given, at another scale.

    `stated` is the scale that the user says, micrometres per pixel, None for what the file says.
    """

    source: Source
    part: Rect
    stated: float | None = None

    @classmethod
    def whole(cls, source: Source, stated: float | None = None) -> Part:
        """All of a source."""
        return cls(source=source, part=Rect(top=0, left=0, height=source.height, width=source.width), stated=stated)

    @property
    def height(self) -> int:
        """Of the part, px."""
        return self.part.height

    @property
    def width(self) -> int:
        """Of the part, px."""
        return self.part.width

    @property
    def _is_whole(self) -> bool:
        return self.part == replace(self.part, top=0, left=0, height=self.source.height, width=self.source.width)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Itself, and the smaller ones of a source that it is the whole of."""
        return (self, *self.source.levels[1:]) if self._is_whole else (self,)

    @property
    def mpp(self) -> float | None:
        """What is stated, or that of the source."""
        return self.stated or self.source.mpp

    @property
    def mpp_from(self) -> str:
        """Where it is from."""
        return "--source-mpp" if self.stated else self.source.mpp_from

    def read(self, rect: Rect) -> PictureU8:
        """The pixels of a rectangle that lies inside, u8 [H,W,3] RGB."""
        return self.source.read(replace(rect, top=rect.top + self.part.top, left=rect.left + self.part.left))

    def overview(self, side: int) -> PictureU8:
        """The part with a longer side of at most `side` px, u8 [h,w,3]."""
        return self.source.overview(side) if self._is_whole else overview(self.levels, side)
