"""Where tiles lie in the picture that they were cut from, as far as their names say it.

Names that are read: `<slide>_y0_x512` and `<slide>_x512_y0`, as this program and others write them, the brackets of
QuPath, `<slide> [x=512,y=0,w=512,h=512]`, and `<slide>_<row>_<column>` where a stride is known. Coordinates count the
pixels of the picture; those of QuPath count pixels of the full resolution, and width and height or `d` say how many
there are to a pixel of the tile. Other programs that save a tile at a lower resolution do not say so: their tiles count
as smaller than they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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

    `width` is of the tile in px of the picture, 0 where the name does not say it.
    """

    picture: str
    top: float
    left: float
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


def read_corner(name: str, stride: int = 0) -> Corner | None:
    """Where a tile lies by its name, without suffix; None if the name does not say it, or not of which picture.

    `stride` is how far rows and columns are apart, 0 where it is not known.

    >>> corner = read_corner("set/slide7_y1024_x512")
    >>> (corner.picture, corner.top, corner.left)
    ('set/slide7', 1024.0, 512.0)
    """
    folder, slash, stem = name.rpartition("/")
    corner = _read(stem, stride)
    if corner is None or not (folder or corner.picture):
        return None
    return replace(corner, picture=f"{folder}{slash}{corner.picture}")


def read_corners(names: Sequence[str], stride: int) -> list[Corner | None]:
    """The corner of each tile; coordinates that go up in steps of a few px count tiles, too."""
    corners = [read_corner(name, stride) for name in names]
    if not _few_px_apart(corners):
        return corners
    return [
        replace(corner, top=corner.top * stride, left=corner.left * stride) if corner and stride else None
        for corner in corners
    ]


def count_tiles(names: Sequence[str]) -> bool:
    """Whether some names count rows and columns, so that a stride says where they lie."""
    if any(_GRID.search(name.rpartition("/")[2]) for name in names):
        return True
    return _few_px_apart([read_corner(name) for name in names])


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


def _read(stem: str, stride: int) -> Corner | None:
    """The last coordinates of a name; those before them are of the picture that it was cut from, in turn."""
    found = [*_PIXELS.finditer(_BRACKET.sub(lambda match: "]" * len(match[0]), stem))]
    if not found:
        return _bracketed(stem) or _in_a_grid(stem, stride)
    last = found[-1]
    top, left = float(last["y"] or last["y2"]), float(last["x"] or last["x2"])
    rest = stem[: last.start()] + stem[last.end() :]
    outer = _read(rest, stride)
    if outer is None:
        return Corner(picture=rest, top=top, left=left)
    return replace(outer, top=outer.top + outer.scale * top, left=outer.left + outer.scale * left, width=0.0)


def _in_a_grid(stem: str, stride: int) -> Corner | None:
    match = _GRID.search(stem) if stride else None
    return Corner(picture=match[1], top=float(match[2]) * stride, left=float(match[3]) * stride) if match else None


def _few_px_apart(corners: Sequence[Corner | None]) -> bool:
    """Whether coordinates in px go up in steps that are too small for px, mostly."""
    values: dict[tuple[str, bool], set[float]] = {}
    for corner in corners:
        if corner:
            values.setdefault((corner.picture, True), set()).add(corner.top)
            values.setdefault((corner.picture, False), set()).add(corner.left)
    steps = [after - before for column in values.values() for before, after in pairwise(sorted(column))]
    return bool(steps) and median(steps) < LEAST_STEP
