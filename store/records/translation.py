"""`<output>.json`: what a translated picture was made from and how, and what the borders of its tiles are like."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path

from store.files import check_record, read_json
from store.schema import FORBID_UNKNOWN, RunError, SchemaError
from store.slides.geometry import Grid
from store.slides.seams import Place, Seams

ENDING = ".json"
DONE, SKIPPED = "#", "."  # of `tiles`


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A picture of `height` x `width` px in tiles of `side` px.

    `source`, `generator` and `output` are sha256 in hex, of a folder that of the names and digests of its files.
    `region` is (top, left, height, width) of the part of the source that was translated, in pixels of `mpp`; `settings`
    are all that change a pixel. `tiles` has a text for each row of the grid, `#` for a tile that was translated and `.`
    for one that was skipped and is white. `seams` is None where no border lies between two translated tiles.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    name: str
    source: str
    generator: str
    method: str
    norm_statistics: str
    settings: dict[str, object]
    height: int
    width: int
    side: int
    region: tuple[int, int, int, int] | None
    source_mpp: float | None
    mpp: float | None
    mask: str
    tiles: tuple[str, ...]
    seams: Seams | None
    notes: tuple[str, ...] = ()
    output: str | None = None
    software: dict[str, str] = field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        """How it was divided into tiles."""
        return Grid(height=self.height, width=self.width, side=self.side)

    @property
    def skipped(self) -> frozenset[Place]:
        """Row and column of the tiles that are white."""
        return frozenset(place for place in self.grid.places() if self.tiles[place[0]][place[1]] == SKIPPED)

    def __post_init__(self) -> None:
        grid = self.grid
        if [len(row) for row in self.tiles] != [grid.columns] * grid.rows or set().union(*self.tiles) - {DONE, SKIPPED}:
            raise SchemaError(f"`tiles` are not {grid.rows} texts of {grid.columns} signs {DONE} or {SKIPPED}")


def tiles_of(grid: Grid, skipped: Set[Place]) -> tuple[str, ...]:
    """The texts of a record from the skipped tiles.

    >>> tiles_of(Grid(height=10, width=25, side=10), {(0, 1)})
    ('#.#',)
    """
    return tuple(
        "".join(SKIPPED if (row, column) in skipped else DONE for column in range(grid.columns))
        for row in range(grid.rows)
    )


def record_of(output: Path) -> Path:
    """Where the record of an output is.

    >>> record_of(Path("out/slide.ome.tiff")).as_posix()
    'out/slide.ome.tiff.json'
    """
    return output.with_name(output.name + ENDING)


def read_translation(output: Path) -> Translation:
    """The record beside a translated picture. Raises RunError if there is none, or if it is damaged.

    The remedies overwrite nothing: what has no record of its own may be a picture of the user.
    """
    record = record_of(output)
    if not record.exists():
        if not output.exists():
            raise RunError(f"{output}: no such file or folder; check the path")
        raise RunError(f"{output} has no record, {record.name}, beside it; name an output of `train translate`")
    return check_translation(record, "bring back a copy of the record, or translate the picture again to another --out")


def check_translation(file: Path, remedy: str) -> Translation:
    """The record in a file. Raises RunError with the remedy if there is none, or if it is damaged."""
    return check_record(Translation, read_json(file, remedy), file, remedy)
