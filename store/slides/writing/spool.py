"""A folder beside an output that holds what is finished of it, so that the same command resumes.

    NAME.partial/plan.json    what is written here; another plan starts anew
    NAME.partial/level-0/     finished units, one file each; level-1, … follow when all are there

Whoever fills it may keep files of its own in other folders of it. It is removed once the output is in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from store.disk.removing import remove_file, remove_folder
from store.files import PARTIAL, disk_errors, read_json, to_json, write_json
from store.images import PictureU8
from store.schema import RunError, StoreError
from store.slides.geometry import Grid, Rect
from store.slides.writing.layer import Layer
from store.slides.writing.plan import LEVEL_PIXELS, UNIT_PIXELS, SpoolPlan, Unit, plan_levels

UNPACKED = 1 << 25  # bytes of tiles that are kept for those who read parts
PLAN, RECORD = "plan.json", "draft.json"  # the second is of `finish`


class Spool:
    """An unfinished picture. `open` makes or resumes one; threads and processes may use it at once."""

    def __init__(self, folder: Path, plan: SpoolPlan) -> None:
        self.folder = folder
        self.plan = plan
        self.base = self._layer(0, plan.grid, UNIT_PIXELS, UNPACKED)

    @classmethod
    def open(cls, folder: Path, plan: SpoolPlan) -> Spool:
        """The spool in `folder`, which is made if it is missing; what was there of another plan is removed.

        Raises StoreError if a folder of that name is no spool, or cannot be written.
        """
        file = folder / PLAN
        with disk_errors(folder):
            if not file.is_file() and folder.exists() and any(p.suffix != PARTIAL for p in folder.iterdir()):
                raise StoreError(f"{folder} is in the way: it holds no {PLAN}; move it away or remove it")
            if _planned(file) != to_json(asdict(plan)):
                folder.mkdir(parents=True, exist_ok=True)
                clear(folder, keep={PLAN})
                write_json(file, plan)
        return cls(folder, plan)

    def pending(self) -> list[Unit]:
        """The units that are missing or damaged, row by row."""
        return self.base.pending()

    def put(self, unit: Unit, cores: Sequence[PictureU8 | None]) -> None:
        """Write a unit: u8 [h,w,3] of each of its cores, or None where it was skipped. See `Layer.put`."""
        self.base.put(unit, cores)

    def read(self, rect: Rect) -> PictureU8:
        """The pixels of a rectangle of finished units, u8 [H,W,3]. Raises StoreError if they are not all there."""
        return self.base.read(rect)

    def skipped(self) -> list[tuple[int, int]]:
        """Row and column of each core that was skipped, when all units are there."""
        return list(self.base.skipped())

    def levels(self) -> tuple[Layer, ...]:
        """The picture and its levels, the largest first. Those above the first are filled by `make_level`."""
        smaller = (self._layer(n, grid, LEVEL_PIXELS) for n, grid in enumerate(plan_levels(self.plan), start=1))
        return (self._layer(0, self.plan.grid, UNIT_PIXELS), *smaller)

    def remove(self) -> None:
        """Remove the folder; as long as it has its name, it says of what it was."""
        with disk_errors(self.folder):
            clear(self.folder, keep={PLAN, RECORD})
            gone = self.folder.with_name(f"{self.folder.name}.removed")
            remove_folder(gone)
            self.folder.rename(gone)
            remove_folder(gone)

    def _layer(self, number: int, grid: Grid, most_pixels: int, kept: int = 0) -> Layer:
        plan, folder = self.plan, self.folder / f"level-{number}"
        return Layer(folder, grid, plan.tile, plan.packing, plan.quality, most_pixels=most_pixels, kept=kept)


def clear(folder: Path, keep: set[str]) -> None:
    """Remove all that a folder holds but the names to keep."""
    for child in sorted(folder.iterdir()):
        if child.name not in keep:
            remove_folder(child) if child.is_dir() and not child.is_symlink() else remove_file(child)


def _planned(file: Path) -> object:
    """The plan in a file as plain values; None if there is none that can be read."""
    try:
        return read_json(file, "") if file.is_file() else None
    except RunError:
        return None
