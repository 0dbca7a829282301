"""Build a store: check, then unit by unit read, cut, enlarge and write. Run again, it goes on where it stopped."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from prep.checking import read_pair, refuse_bad
from prep.plan import BuildPlan, Data, describe_plan, find_pairs, plan_build, raw_bytes, resolve
from prep.settings import PrepSettings
from prep.upscale import Enlarges, make_upscaler
from prep.views import Geometry, cut_source, cut_window, finish_view, plan_boxes
from store.arrays import Unit
from store.files import disk_errors
from store.manifest import journal_of, read_root
from store.schema import Box, Interrupted, Stain, StoreError
from store.settings import differences, plain
from store.signals import stop_requests
from store.writer import finish_sealing, open_writer

Pixels = NDArray[np.uint8]
COMPRESSED = 0.5  # of the raw bytes: histology never gets smaller than this without loss


def say(text: str) -> None:
    """A line for the person, above a progress bar."""
    tqdm.write(text, file=sys.stderr)


def make_plan(settings: PrepSettings, data: Data, *, threads: int) -> BuildPlan:
    """Find and check the pairs of the data folders, with a progress bar, and plan the store. Writes nothing."""
    settings = resolve(settings, data)
    discovery = find_pairs(settings, data)
    with tqdm(total=len(discovery.candidates), desc="checking", unit="pair", file=sys.stderr) as bar:
        return plan_build(settings, data, discovery, threads=threads, tick=bar.update)


def build(settings: PrepSettings, data: Data, path: Path, *, skip_bad: bool, threads: int) -> None:
    """Build the store at `path` or go on with it; bad pairs stop it before anything is written, or are left out.

    Raises MagstainError for what a user can mend, Interrupted when a signal stopped it between two units.
    """
    settings = resolve(settings, data)
    if is_finished(path, settings):
        say(f"{path} is finished and was made with these settings; the data folder was not looked at again")
        return
    upscaler = make_upscaler(settings)
    check_place(path)
    plan = make_plan(settings, data, threads=threads)
    say(describe_plan(plan))
    if not skip_bad:
        refuse_bad(plan.table.skipped)
    check_room(path, plan)
    _write_units(plan, path, upscaler, threads)
    for bad in plan.table.skipped:
        say(f"left out: {bad.split} {bad.id!r}: {bad.reason}")
    say(f"finished: the store is {path}")


def is_finished(path: Path, settings: PrepSettings) -> bool:
    """Whether the store stands sealed, made with these settings; StoreError if it was made with others."""
    if not path.exists():
        return False
    manifest = read_root(path).manifest
    if not manifest.sealed:
        return False
    if changed := differences(manifest.settings, plain(settings)):
        raise StoreError(
            f"{path} is finished and was made with other settings ({'; '.join(changed[:3])}); "
            "choose another STORE=, or remove this one first"
        )
    finish_sealing(path)
    return True


def check_place(path: Path) -> None:
    """Refuse a place that cannot be written to, before any work is done; leaves nothing behind."""
    with disk_errors(path):
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=parent):
            pass


def check_room(path: Path, plan: BuildPlan) -> None:
    """Refuse a disk that cannot hold the store even if every picture compresses well."""
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    folders = (path, journal_of(path))
    there = sum(f.stat().st_size for folder in folders if folder.exists() for f in folder.rglob("*") if f.is_file())
    needed = int(COMPRESSED * raw_bytes(plan.manifest)) - there
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise StoreError(
            f"cannot write {path}: the disk has {free / 1e9:,.3f} GB free, and the store needs at least another "
            f"{needed / 1e9:,.3f} GB; free some space or choose another STORE="
        )


def _write_units(plan: BuildPlan, path: Path, upscaler: Enlarges, threads: int) -> None:
    """Every unit that is not written yet, then the seal."""
    total = sum(plan.manifest.counts.values())
    with open_writer(path, plan.manifest, plan.table) as writer, stop_requests(say) as stop:
        pending = writer.pending()
        begun = total - sum(len(unit.pairs) for unit in pending)
        with (
            ThreadPoolExecutor(threads) as pool,
            tqdm(total=total, initial=begun, desc="building", unit="pair", file=sys.stderr) as bar,
        ):
            for done, unit in enumerate(pending, start=1):
                writer.write(unit, build_unit(unit, plan, upscaler, pool))
                bar.update(len(unit.pairs))
                if stop.requested and (left := len(pending) - done):
                    raise Interrupted(f"{path} is safe, {left} units are left; the same command goes on")
        writer.seal()


def build_unit(unit: Unit, plan: BuildPlan, upscaler: Enlarges, pool: ThreadPoolExecutor) -> dict[str, NDArray[Any]]:
    """The rows of a unit by array path: tiles, views u8 [n,view,S,S,3], boxes i32 [n,view,3].

    A function of the unit's pairs and the settings: nothing crosses into it from another unit.
    """
    pairs = plan.table.pairs[unit.split][unit.first : unit.stop]
    pictures = list(pool.map(lambda pair: read_pair(plan.sources, pair), pairs))
    tiles = {Stain.HE: [he for he, _ in pictures], Stain.IHC: [ihc for _, ihc in pictures]}
    blocks: dict[str, NDArray[Any]] = {}
    if plan.manifest.has_tiles(unit.split):
        blocks |= {f"{unit.split}/tile/{stain}": np.stack(tiles[stain]) for stain in Stain}
    for geometry in plan.geometries:
        boxes = [plan_boxes(geometry, plan.manifest.seed, pair.id) for pair in pairs]
        views = _cut_views(tiles, boxes, geometry, upscaler, pool)
        group = f"{unit.split}/{geometry.view.name}"
        blocks |= {f"{group}/{stain}": views[stain] for stain in Stain}
        blocks[f"{group}/box"] = np.array([[(b.top, b.left, b.side) for b in row] for row in boxes], np.int32)
    return blocks


def _cut_views(
    tiles: Mapping[Stain, list[Pixels]],
    boxes: list[list[Box]],
    geometry: Geometry,
    upscaler: Enlarges,
    pool: ThreadPoolExecutor,
) -> dict[Stain, Pixels]:
    """One view of every pair of a unit, at the same boxes in both stains: u8 [n,view,S,S,3] each."""
    sources = {stain: list(pool.map(lambda tile: cut_source(tile, geometry), tiles[stain])) for stain in Stain}
    flat = [(source, box) for stain in Stain for source, row in zip(sources[stain], boxes, strict=True) for box in row]
    windows = np.stack([cut_window(source, box, geometry) for source, box in flat])  # [2 x n x view,W,W,3]
    if geometry.enlarged:
        windows = upscaler.enlarge(windows, int(geometry.factor))
    views = np.stack([finish_view(window, box, geometry) for window, (_, box) in zip(windows, flat, strict=True)])
    shape = (len(boxes), geometry.view.count, *views.shape[1:])
    return dict(zip(Stain, (half.reshape(shape) for half in np.split(views, 2)), strict=True))
