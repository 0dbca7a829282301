"""A picture in a folder of unit files: written core by core in any order, read in rectangles or as packed tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from store.files import disk_errors
from store.images import PictureU8
from store.location.local import Folder
from store.schema import SchemaError
from store.slides.geometry import Grid, Rect
from store.slides.writing import unit_file
from store.slides.writing.packing import WHITE, pack, unpack, white
from store.slides.writing.plan import Packing, Unit, plan_units

INDEXES = 256  # of unit files that are kept, about 20 kB each


class Layer:
    """A picture of a grid in `folder`. Threads, and processes that see the same folder, may use it at once.

    `kept` bytes of unpacked tiles are kept for whoever reads the same place again.
    """

    def __init__(
        self, folder: Path, grid: Grid, tile: int, packing: Packing, quality: int, *, most_pixels: int, kept: int = 0
    ) -> None:
        self.folder = folder
        self.grid = grid
        self.tiles = Grid(height=grid.height, width=grid.width, side=tile)
        self.units = plan_units(grid, most_pixels)
        self._packing, self._quality = packing, quality
        self._per_core = grid.side // tile
        self._whole = set[Unit]()  # known to be
        self._index = lru_cache(INDEXES)(self._read_index)
        self._tile = lru_cache(kept // (3 * tile**2))(self._read_tile)

    def pending(self) -> list[Unit]:
        """The units that are missing or damaged. Reads every file once."""
        self._whole.update(u for u in self.units if u not in self._whole and self.has(u))
        return [unit for unit in self.units if unit not in self._whole]

    def has(self, unit: Unit) -> bool:
        """Whether a unit is there, whole."""
        return unit_file.is_whole(self._file(unit))

    def put(self, unit: Unit, cores: Sequence[PictureU8 | None]) -> None:
        """Write a unit, whose cores are u8 [h,w,3], or None where it was skipped: white. All of it is written, or none.

        Raises SchemaError if a core has another size than in the grid, StoreError if the disk is full.
        """
        sizes = [(rect.height, rect.width, 3) for rect in (self.grid.tile(*place) for place in unit.places())]
        found = [size if core is None else core.shape for core, size in zip(cores, sizes, strict=True)]
        if found != sizes:
            raise SchemaError(f"cores of {found} px in {unit}: the grid has {sizes}")
        rows = -(-sizes[0][0] // self.tiles.side)
        columns = [-(-width // self.tiles.side) for _, width, _ in sizes]
        packed = [
            self._pack(core, row, column)
            for row in range(rows)
            for core, count in zip(cores, columns, strict=True)
            for column in range(count)
        ]
        with disk_errors(self.folder):
            parts = unit_file.to_parts(self._file(unit), packed, sum(columns), [core is None for core in cores])
            Folder(self.folder).write(unit.name, *parts)
        self._index.cache_clear()  # of what was there before
        self._tile.cache_clear()
        self._whole.add(unit)

    def count_tiles(self, unit: Unit) -> int:
        """How many output tiles a unit has."""
        rect, side = unit.rect(self.grid), self.tiles.side
        return -(-rect.height // side) * -(-rect.width // side)

    def skipped(self) -> Iterator[tuple[int, int]]:
        """Row and column of each core that was skipped. All units must be there."""
        for unit in self.units:
            for place, skipped in zip(unit.places(), self._index(unit).skipped, strict=True):
                if skipped:
                    yield place

    def packed(self, row: int, columns: range) -> Iterator[bytes]:
        """Neighbouring packed tiles of a row of output tiles, from left to right. All units must be there."""
        for unit in self._in_row(row // self._per_core):
            index = self._index(unit)
            left = unit.column * self._per_core
            part = range(max(columns.start, left), min(columns.stop, left + index.columns))
            if part:
                first = (row - unit.row * self._per_core) * index.columns + part.start - left
                for data in unit_file.read_tiles(self._file(unit), index, first, len(part)):
                    yield data or white(self._packing, self.tiles.side, self._quality)

    def packed_bytes(self) -> int:
        """The bytes of all packed tiles together."""
        empty, total = len(white(self._packing, self.tiles.side, self._quality)), 0
        for unit in self.units:
            places = self._index(unit).places
            total += sum(end - start or empty for start, end in pairwise(places))
        return total

    def is_white(self, rect: Rect) -> bool:
        """Whether a rectangle lies in skipped cores alone."""
        side = self.grid.side
        return all(
            self._index(self._unit(row, column)).skipped[column - self._unit(row, column).column]
            for row in range(rect.top // side, -(-rect.bottom // side))
            for column in range(rect.left // side, -(-rect.right // side))
        )

    def read(self, rect: Rect) -> PictureU8:
        """The pixels of a rectangle, u8 [H,W,3]. Raises StoreError if its units are missing or damaged."""
        if not rect.is_inside(self.grid.height, self.grid.width):
            raise SchemaError(f"{rect} is not inside {self.grid.height} x {self.grid.width} px")
        pixels = np.empty((rect.height, rect.width, 3), np.uint8)
        side = self.tiles.side
        for row in range(rect.top // side, -(-rect.bottom // side)):
            for column in range(rect.left // side, -(-rect.right // side)):
                top, left = max(rect.top, row * side), max(rect.left, column * side)
                bottom, right = min(rect.bottom, (row + 1) * side), min(rect.right, (column + 1) * side)
                part = self._tile(row, column)[
                    top - row * side : bottom - row * side, left - column * side : right - column * side
                ]
                pixels[top - rect.top : bottom - rect.top, left - rect.left : right - rect.left] = part
        return pixels

    def _pack(self, core: PictureU8 | None, row: int, column: int) -> bytes:
        if core is None:
            return b""
        side = self.tiles.side
        tile = core[row * side : (row + 1) * side, column * side : (column + 1) * side]
        return pack(self._packing, tile, side, self._quality)

    def _read_index(self, unit: Unit) -> unit_file.Index:
        return unit_file.read_index(self._file(unit))

    def _read_tile(self, row: int, column: int) -> PictureU8:
        """An output tile, u8 [side,side,3]."""
        unit = self._unit(row // self._per_core, column // self._per_core)
        index = self._index(unit)
        first = (row - unit.row * self._per_core) * index.columns + column - unit.column * self._per_core
        (data,) = unit_file.read_tiles(self._file(unit), index, first, 1)
        side = self.tiles.side
        return unpack(self._packing, data, side) if data else np.full((side, side, 3), WHITE, np.uint8)

    def _unit(self, row: int, column: int) -> Unit:
        """The unit of a core."""
        return self._in_row(row)[column // self.units[0].count]

    def _in_row(self, row: int) -> Sequence[Unit]:
        """The units of a row of cores."""
        per_row = -(-self.grid.columns // self.units[0].count)
        return self.units[row * per_row : (row + 1) * per_row]

    def _file(self, unit: Unit) -> Path:
        return self.folder / unit.name
