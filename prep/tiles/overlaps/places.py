"""Where tiles lie in the picture that they were cut from, as far as their names say it.

Names that are read: `<slide>_y0_x512` and `<slide>_x512_y0`, as this program and others write them, the brackets of
QuPath, `<slide> [x=512,y=0,w=512,h=512]`, and `<slide>_<row>_<column>` where a stride is known. Coordinates count the
pixels of the picture; those of QuPath count pixels of the full resolution, and width and height or `d` say how many
there are to a pixel of the tile. Other programs that save a tile at a lower resolution do not say so: their tiles count
as smaller than they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from store.schema import Box

Size = tuple[int, int]  # height and width, px

LEAST_STEP = 8  # px from one tile to the next; coordinates that go up by less count tiles
_BRACKET = re.compile(r"\s*\[([^\[\]]*)\]")
_NUMBER = re.compile(r"([a-z]+)=(-?\d+(?:\.\d+)?)", re.IGNORECASE)
_PIXELS = re.compile(
    r"[_\-. ]*(?<![a-z0-9])(?:y[_=]?(?P<y>\d+)[_\-, ]*x[_=]?(?P<x>\d+)|x[_=]?(?P<x2>\d+)[_\-, ]*y[_=]?(?P<y2>\d+))"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)
_GRID = re.compile(r"^(.+)_(\d+)_(\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corner:
    """The corner of a tile in a picture as a name says it, `scale` px of the picture to a px of the tile.

    `counted` where rows and columns are counted instead of pixels. `width` is of the tile in px of the picture, 0 where
    the name does not say it.
    """

    picture: str
    top: float
    left: float
    counted: bool = False
    scale: float = 1.0
    width: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A rectangle of a picture, in its px."""

    picture: str
    top: float
    left: float
    bottom: float
    right: float


def read_corner(name: str) -> Corner | None:
    """Where a tile lies by its name, without suffix; None if the name does not say it, or not of which picture.

    >>> corner = read_corner("set/slide7_y1024_x512")
    >>> (corner.picture, corner.top, corner.left)
    ('set/slide7', 1024.0, 512.0)
    """
    folder, slash, stem = name.rpartition("/")
    corner = _in_pixels(stem) or _bracketed(stem) or _in_a_grid(stem)
    if corner is None or not (folder or corner.picture):
        return None
    return replace(corner, picture=f"{folder}{slash}{corner.picture}")


def with_stride(corners: Iterable[Corner | None], stride: int) -> list[Corner | None]:
    """The corners in px: rows and columns times the stride, or none where it is not known.

    Coordinates in px that go up in steps of a few count tiles, too.
    """
    corners = list(corners)
    counted = _few_px_apart(corners)

    def in_px(corner: Corner | None) -> Corner | None:
        if corner is None or not (corner.counted or counted):
            return corner
        return replace(corner, top=corner.top * stride, left=corner.left * stride) if stride else None

    return [in_px(corner) for corner in corners]


def uses_stride(corners: Iterable[Corner | None]) -> bool:
    """Whether some names count tiles, so that a stride says where they lie."""
    corners = list(corners)
    return any(corner and corner.counted for corner in corners) or _few_px_apart(corners)


def place_tile(corner: Corner, size: Size, box: Box | None = None) -> Place:
    """The rectangle of a tile of this size, or of a square of it."""
    scale = corner.width / size[1] if corner.width else corner.scale
    top, left, height, width = (box.top, box.left, box.side, box.side) if box else (0, 0, *size)
    return Place(
        picture=corner.picture,
        top=corner.top + scale * top,
        left=corner.left + scale * left,
        bottom=corner.top + scale * (top + height),
        right=corner.left + scale * (left + width),
    )


def _bracketed(stem: str) -> Corner | None:
    """As QuPath writes it; `z` and `t` tell one picture from another."""
    for match in _BRACKET.finditer(stem):
        said = {key.lower(): value for key, value in _NUMBER.findall(match[1])}
        if {"x", "y"} <= said.keys():
            planes = "".join(f"[{key}={said[key]}]" for key in ("z", "t") if key in said)
            return Corner(
                picture=stem[: match.start()] + stem[match.end() :] + planes,
                top=float(said["y"]),
                left=float(said["x"]),
                scale=float(said.get("d", 1)) or 1.0,
                width=float(said.get("w", 0)),
            )
    return None


def _in_pixels(stem: str) -> Corner | None:
    """The last coordinates of a name; those before them are of the picture that it was cut from, in turn."""
    found = [*_PIXELS.finditer(_BRACKET.sub(lambda match: "]" * len(match[0]), stem))]
    if not found:
        return None
    last = found[-1]
    top, left = float(last["y"] or last["y2"]), float(last["x"] or last["x2"])
    rest = stem[: last.start()] + stem[last.end() :]
    outer = _in_pixels(rest) or _bracketed(rest)
    if outer is None:
        return Corner(picture=rest, top=top, left=left)
    return replace(outer, top=outer.top + outer.scale * top, left=outer.left + outer.scale * left, width=0.0)


def _in_a_grid(stem: str) -> Corner | None:
    match = _GRID.search(stem)
    return Corner(picture=match[1], top=float(match[2]), left=float(match[3]), counted=True) if match else None


def _few_px_apart(corners: Sequence[Corner | None]) -> bool:
    """Whether coordinates in px go up in steps that are too small for px, mostly."""
    values: dict[tuple[str, bool], set[float]] = {}
    for corner in corners:
        if corner and not corner.counted:
            values.setdefault((corner.picture, True), set()).add(corner.top)
            values.setdefault((corner.picture, False), set()).add(corner.left)
    steps = [after - before for column in values.values() for before, after in pairwise(sorted(column))]
    return bool(steps) and median(steps) < LEAST_STEP
