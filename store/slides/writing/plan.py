"""How a picture is written: kinds of files, output tiles, units, levels of the pyramid. Pure; lengths are pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import log2

from store.schema import SchemaError
from store.slides.geometry import Grid, Rect

MULTIPLE = 16  # px that the side of a tile in a TIFF must be a multiple of; TIFF 6.0, section 15
USUAL_TILE = 256  # the side of an output tile that viewers ask for
UNIT_CORES = 16  # at most, of one row of the grid
UNIT_PIXELS = 1 << 22  # at most, but for a unit of one core: a request to stop loses no more work
LEVEL_PIXELS = 1 << 20  # of a unit of a level above the first
LEVEL_SIDE = 512  # of a core of it, which is made of four times as many pixels of the level below


class OutputKind(StrEnum):
    """The files that a picture is written to."""

    PNG = "png"
    JPEG = "jpeg"
    TIFF = "tiff"
    OME_TIFF = "ome-tiff"
    OME_ZARR = "ome-zarr"

    @property
    def has_levels(self) -> bool:
        """Whether it is a pyramid."""
        return self in {OutputKind.OME_TIFF, OutputKind.OME_ZARR}


class Packing(StrEnum):
    """The bytes of an output tile: as they are, or as they will be in the tiles of a TIFF or the chunks of a Zarr."""

    RAW = "raw"
    DEFLATE = "deflate"
    JPEG = "jpeg"
    GZIP = "gzip"


PACKINGS = {  # of each kind, the lossless one first
    OutputKind.PNG: (Packing.RAW,),
    OutputKind.JPEG: (Packing.RAW,),
    OutputKind.TIFF: (Packing.RAW,),
    OutputKind.OME_TIFF: (Packing.DEFLATE, Packing.JPEG),
    OutputKind.OME_ZARR: (Packing.GZIP,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolPlan:
    """What a spool holds: a picture of height x width px in cores of `side` px, each in output tiles of `tile` px.

    `identity` names all that makes the pixels, such as digests of source and generator and the settings: finished units
    are taken over by the same plan only. `quality` is that of JPEG, 1 to 100.
    """

    height: int
    width: int
    side: int
    tile: int
    packing: Packing
    quality: int = 90
    identity: str = ""

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise SchemaError(f"picture of {self.height} x {self.width} px: both must be at least 1")
        if self.tile < MULTIPLE or self.tile % MULTIPLE or self.side % self.tile:
            raise SchemaError(
                f"output tiles of {self.tile} px in cores of {self.side} px: the tile must be a multiple of {MULTIPLE} "
                f"and divide the core; cores of a multiple of {MULTIPLE} px have one, see `output_tile`"
            )
        if not 1 <= self.quality <= 100:
            raise SchemaError(f"JPEG quality {self.quality}: must be between 1 and 100, e.g. 90")

    @property
    def grid(self) -> Grid:
        """The cores."""
        return Grid(height=self.height, width=self.width, side=self.side)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Neighbouring cores of one row of a grid, which are written as one file."""

    row: int
    column: int
    count: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.row:06d}-{self.column:06d}.unit"

    def places(self) -> Iterator[tuple[int, int]]:
        """Row and column of each of its cores, from left to right."""
        for column in range(self.column, self.column + self.count):
            yield self.row, column

    def rect(self, grid: Grid) -> Rect:
        """What it covers of the picture."""
        first, last = grid.tile(self.row, self.column), grid.tile(self.row, self.column + self.count - 1)
        return Rect(top=first.top, left=first.left, height=first.height, width=last.right - first.left)


def plan_spool(
    kind: OutputKind, height: int, width: int, side: int, identity: str, *, lossy: bool = False, quality: int = 90
) -> SpoolPlan:
    """The plan for a kind of file; `lossy` packs the tiles of an OME-TIFF as JPEG. `side` is a multiple of 16 px."""
    return SpoolPlan(
        height=height,
        width=width,
        side=side,
        tile=output_tile(side),
        packing=PACKINGS[kind][-1 if lossy else 0],
        quality=quality,
        identity=identity,
    )


def output_tile(side: int) -> int:
    """The side of output tiles in cores of `side` px: of the multiples of 16 that divide it, the nearest to 256.

    >>> output_tile(1024), output_tile(64), output_tile(2000), output_tile(976)
    (256, 64, 400, 976)
    """
    if side < MULTIPLE or side % MULTIPLE:
        raise SchemaError(f"cores of {side} px: the side must be a multiple of {MULTIPLE} px, e.g. 1024")
    fitting = (tile for tile in range(MULTIPLE, side + 1, MULTIPLE) if side % tile == 0)
    return min(fitting, key=lambda tile: abs(log2(tile / USUAL_TILE)))


def plan_units(grid: Grid, most_pixels: int = UNIT_PIXELS) -> tuple[Unit, ...]:
    """The units of a grid, row by row: up to 16 cores, at most `most_pixels` px unless it is a single core.

    >>> [unit.count for unit in plan_units(Grid(height=1, width=4000, side=100))]
    [16, 16, 8]
    """
    most = max(1, min(UNIT_CORES, most_pixels // grid.side**2))
    return tuple(
        Unit(row=row, column=column, count=min(most, grid.columns - column))
        for row in range(grid.rows)
        for column in range(0, grid.columns, most)
    )


def plan_levels(plan: SpoolPlan) -> tuple[Grid, ...]:
    """The levels above the first, each half as large, odd sides rounded up, down to one output tile.

    >>> sides = dict(height=300, width=1025, side=512, tile=256, packing=Packing.RAW)
    >>> [(level.height, level.width) for level in plan_levels(SpoolPlan(**sides))]
    [(150, 513), (75, 257), (38, 129)]
    """
    levels, height, width = [], plan.height, plan.width
    while max(height, width) > plan.tile:
        height, width = (height + 1) // 2, (width + 1) // 2
        levels.append(Grid(height=height, width=width, side=plan.tile * max(1, LEVEL_SIDE // plan.tile)))
    return tuple(levels)
