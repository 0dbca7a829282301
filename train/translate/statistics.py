"""The first pass: the statistics with which the tiles of a larger picture are translated.

What is measured is kept in a folder, unit by unit, so that the same command resumes; the second pass reads it from
there, mapped, so that memory does not grow with the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from store.files import PARTIAL, disk_errors, sync
from store.schema import StoreError
from store.slides.geometry import Grid
from store.slides.seams import Place
from store.slides.writing.plan import Unit
from train.run.inference import seeded, to_input
from train.translate.engine import Network, Stream
from train.translate.moments.collect import collect, collect_together
from train.translate.moments.field import Field
from train.translate.moments.files import map_moments, read_moments, write_moments
from train.translate.moments.layout import Layout
from train.translate.moments.table import Moments, kernel_field, kernel_weights, local_field, pooled
from train.translate.passes import KEPT, FieldOf, Input, Tile, count_tiles, needs_to_be_alone, on_device, run_units
from train.translate.picture import Picture
from train.translate.plan import Sides, Window, in_even_parts, sample_windows
from train.translate.settings import NormStatistics, TranslateSettings

CROP = 512  # px, the side of what `global` learns from: as training sees it
TOGETHER = 4  # of them go through the generator at once, which are as large as one tile of 1,024 px
TABLE, EVERYWHERE = "table.npy", "everywhere.npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """A picture in units whose statistics a network measures, but for its glass; `folder` keeps them."""

    picture: Picture
    units: Sequence[Unit]
    network: Network
    layout: Layout
    sides: Sides
    settings: TranslateSettings
    folder: Path
    name: str


def own(_place: Place, _window: Window) -> None:
    """No moments: each window has its own."""


def measure(work: Measuring) -> FieldOf:
    """Measure, or read what was measured before, and return the moments of each window.

    A picture of one tile has its own, and a generator that takes none from a picture needs none.
    """
    mode = work.settings.norm_statistics
    if needs_none(work):
        return own
    with disk_errors(work.folder):
        work.folder.mkdir(exist_ok=True)
    if mode in (NormStatistics.THUMBNAIL, NormStatistics.GLOBAL):
        moments = _kept(work, {NormStatistics.THUMBNAIL: _thumbnail, NormStatistics.GLOBAL: _sample}[mode])
        everywhere = on_device(Field.everywhere(torch.from_numpy(moments), work.layout), work.network)
        return lambda _place, _window: everywhere
    return field_of_table(work, _table(work))


def field_of_table(work: Measuring, table: Moments) -> FieldOf:
    """The moments of each window, from those of all tiles."""
    if work.settings.norm_statistics is NormStatistics.LOCAL:
        side = work.picture.grid.side
        return lambda _, window: local_field(table, work.layout, side, window.seen)
    weights = kernel_weights(work.settings.kernel, work.settings.kernel_side)
    return lambda place, _: kernel_field(table, work.layout, *place, weights)


def _kept(work: Measuring, make: Callable[[Measuring], Moments]) -> Moments:
    """The moments that hold everywhere, [K], made once."""
    file = work.folder / EVERYWHERE
    if (found := read_moments(file, (work.layout.size,))) is not None:
        return found
    moments = make(work)
    write_moments(file, moments)
    return moments


def _thumbnail(work: Measuring) -> Moments:
    """TIN: the moments of the whole picture, as large as a tile."""
    small = work.picture.source.overview(work.settings.tile)
    height, width = small.shape[:2]
    whole = Window.whole(height, width, work.sides)
    moments: Moments = _measured(work, [whole.fill(small)], collect)[0]
    return moments


def _sample(work: Measuring) -> Moments:
    """The moments of a sample of crops of tissue as if they were one picture.

    `TOGETHER` at once, which bounds memory; then the groups are pooled. How large tiles are changes nothing.
    """
    grid, settings = work.picture.grid, work.settings
    side = work.sides.around(CROP)
    crops = Grid(height=grid.height, width=grid.width, side=side)
    shown = [place for place in crops.places() if work.picture.shows_tissue(crops.tile(*place))]
    shown = shown or [max(crops.places(), key=lambda place: work.picture.tissue(crops.tile(*place)))]
    draw = np.random.default_rng(settings.seed)
    chosen = sorted(draw.choice(len(shown), min(settings.sample, len(shown)), replace=False))
    windows = sample_windows(crops, [shown[number] for number in chosen], work.sides)
    groups = in_even_parts(windows, TOGETHER)
    stream: Stream[Sequence[Window], list[NDArray[np.uint8]], Moments] = Stream(
        read=lambda group: [work.picture.read(window) for window in group],
        draw=lambda groups: [_measured(work, pixels, collect_together) for _, pixels in groups],
        batch=1,
        stop=work.network.stop,
        kept=KEPT,
    )
    found = [moments for _, moments in stream.each(groups, f"measuring {work.name}", "sample")]
    return pooled(np.stack(found), work.layout)


def needs_none(work: Measuring) -> bool:
    """Whether each tile has its own statistics."""
    alone = work.settings.norm_statistics is NormStatistics.TILE or work.picture.is_one_tile
    return alone or not work.layout.size


def left_to_measure(work: Measuring) -> list[Unit]:
    """The units whose statistics are needed and not kept."""
    if needs_none(work) or work.settings.norm_statistics not in (NormStatistics.KERNEL, NormStatistics.LOCAL):
        return []
    if map_moments(work.folder / TABLE, _shape(work)) is not None:
        return []
    return [unit for unit in _units(work) if read_moments(_file(work, unit), (unit.count, work.layout.size)) is None]


def is_measured(work: Measuring) -> bool:
    """Whether all is there that tiles are translated with."""
    if needs_none(work):
        return True
    if work.settings.norm_statistics in (NormStatistics.THUMBNAIL, NormStatistics.GLOBAL):
        return read_moments(work.folder / EVERYWHERE, (work.layout.size,)) is not None
    return map_moments(work.folder / TABLE, _shape(work)) is not None


def measure_units(work: Measuring, units: Sequence[Unit]) -> None:
    """Measure the tiles of units, each by itself, and keep what is found."""
    with disk_errors(work.folder):
        work.folder.mkdir(exist_ok=True)

    def write(unit: Unit, made: dict[Place, Tensor]) -> None:
        moments = np.full((unit.count, work.layout.size), np.nan, np.float32)
        for row, column in made:
            moments[column - unit.column] = made[row, column].cpu().numpy()
        write_moments(_file(work, unit), moments)

    done = count_tiles(work.picture, _units(work)) - count_tiles(work.picture, units)
    run_units(work.picture, units, _stream(work), f"measuring {work.name}", done, write)


def _units(work: Measuring) -> list[Unit]:
    """The units that show tissue."""
    return [unit for unit in work.units if not work.picture.skipped.issuperset(unit.places())]


def _file(work: Measuring, unit: Unit) -> Path:
    return work.folder / f"{unit.name}.npy"


def _shape(work: Measuring) -> tuple[int, int, int]:
    return work.picture.grid.rows, work.picture.grid.columns, work.layout.size


def _table(work: Measuring) -> Moments:
    """The moments of each tile, [rows,columns,K], mapped from a file.

    It is written row by row: writing into a mapped file kills the process where the disk is full.
    """
    shape, size = _shape(work), work.layout.size
    if (kept := map_moments(work.folder / TABLE, shape)) is not None:
        return kept
    measure_units(work, left_to_measure(work))
    partial_file = work.folder / f"{TABLE}{PARTIAL}"
    with disk_errors(partial_file):
        with partial_file.open("wb") as file:
            form = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, form)
            units = _units(work)
            for row in range(shape[0]):
                moments = np.full(shape[1:], np.nan, np.float32)
                for unit in (unit for unit in units if unit.row == row):
                    found = read_moments(_file(work, unit), (unit.count, size))
                    if found is None:  # assigned, None would be NaN: a skipped tile
                        raise StoreError(f"{_file(work, unit)} was damaged or removed; the same command makes it again")
                    moments[unit.column : unit.column + unit.count] = found
                file.write(moments.tobytes())
        sync(partial_file)
        partial_file.replace(work.folder / TABLE)
    mapped = map_moments(work.folder / TABLE, shape)
    assert mapped is not None, "it was just written"
    return mapped


def _stream(work: Measuring) -> Stream[Tile, Input, Tensor]:
    """The tiles without overlap, each as its moments, float32 [K] on the device."""

    def read(tile: Tile) -> Input:
        window = work.picture.measured(tile.place, work.sides)
        return Input(window=window, pixels=work.picture.read(window))

    def draw(group: list[tuple[Tile, Input]]) -> list[Tensor]:
        return list(_collect(work, [one.pixels for _, one in group], collect))

    return Stream(
        read=read,
        draw=draw,
        batch=1 if needs_to_be_alone(work.network.generator) else work.settings.batch,
        stop=work.network.stop,
        kept=KEPT,
        alike=lambda pair: (pair[0].unit, pair[1].shape),
    )


def _collect(work: Measuring, pixels: Sequence[NDArray[np.uint8]], how: Callable[..., Tensor]) -> Tensor:
    device = work.network.compute.device
    with seeded(device, work.settings.seed), work.network.compute.autocast():
        return how(work.network.generator, to_input(pixels, device))


def _measured(work: Measuring, pixels: Sequence[NDArray[np.uint8]], how: Callable[..., Tensor]) -> Moments:
    moments: Moments = _collect(work, pixels, how).cpu().numpy()
    return moments
