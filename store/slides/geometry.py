"""Rectangles of a picture, and how it is divided into tiles. Lengths are pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from store.schema import SchemaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect:
    """A rectangle of a picture, in its pixels."""

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise SchemaError(f"rectangle {self}: height and width must be at least 1 px")

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The first column right of it."""
        return self.left + self.width

    def is_inside(self, height: int, width: int) -> bool:
        """Whether it lies inside a picture of that size."""
        return self.top >= 0 and self.left >= 0 and self.bottom <= height and self.right <= width


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A picture of height x width px in tiles of `side` px; the last ones of a row or column may be smaller."""

    height: int
    width: int
    side: int

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.side) < 1:
            raise SchemaError(f"grid {self}: height, width and side must be at least 1 px")

    @property
    def rows(self) -> int:
        """Tiles from top to bottom."""
        return -(-self.height // self.side)

    @property
    def columns(self) -> int:
        """Tiles from left to right."""
        return -(-self.width // self.side)

    def tile(self, row: int, column: int) -> Rect:
        """The tile of a place.

        >>> Grid(height=5, width=7, side=4).tile(1, 1)
        Rect(top=4, left=4, height=1, width=3)
        """
        top, left = row * self.side, column * self.side
        height, width = min(self.side, self.height - top), min(self.side, self.width - left)
        return Rect(top=top, left=left, height=height, width=width)

    def places(self) -> Iterator[tuple[int, int]]:
        """Row and column of each tile, row by row."""
        for row in range(self.rows):
            for column in range(self.columns):
                yield row, column
