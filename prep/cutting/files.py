"""Cut pictures into PNG files of square tiles: the same squares, under the same names, as a store cuts of them.

Every picture is checked before the first file is written. A file is complete or not there, and one that is there with
the same pixels is kept: the same command goes on where it stopped.
"""

from __future__ import annotations

import json
import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from prep.build.bad_pairs import describe_bad, refuse_bad
from prep.cutting.folders import Target, check_folder, plan_targets
from prep.registration.matching import matching_of
from prep.settings import PrepSettings, SplitRule, how_to_set
from prep.tiles.checking import collect_pairs, inspect_pairs
from prep.tiles.decoded import Decoded
from prep.tiles.discovery import Data, find_candidates
from prep.tiles.inspected import Checked
from prep.tiles.layouts import Sources
from prep.tiles.pairs import Discovery
from prep.tiles.reading import read_pair
from prep.tiles.splitting.slides import OF_SQUARES, pattern_of_squares
from prep.tiles.squares import cutting_of, describe_cut
from prep.views import check_tile_side, cut_to_fit
from store.cli import progress, say, track
from store.images import PictureU8, read_picture, write_png
from store.machine.memory import spare_memory
from store.process import stop_requests
from store.schema import Interrupted, PairingError, PictureError, SchemaError, SettingsError, Stain, StoreError

SHARE = 4  # one part in so many of the memory that is free keeps decoded pictures
TOGETHER = 64  # pairs that are written between two looks at a request to stop
USUAL = PrepSettings()
FOR_A_STORE = ("stain", "recipe", "view_side", "boxes", "margin", "mpp", "upscaler", "upscaler_file", "val_fraction",
               "test_fraction", "seed", "allow_leakage")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CutFiles:
    """What was written: how many files are new, how many were there, and what else a person should know."""

    new: int
    kept: int
    text: str


def cut_files(settings: PrepSettings, data: Data, out: Path, *, threads: int, skip_bad: bool) -> CutFiles:
    """Write the tiles of every pair of pictures below `out`, in the split that the data come with.

    Raises MagstainError for an error that a user can correct, Interrupted when a signal stopped it between two files.
    """
    if not settings.tile_side:
        raise SettingsError(f"prep cut needs the side of the squares: {how_to_set('tile_side=512')}")
    found = find_candidates(settings, data)
    decoded = Decoded(spare_memory() // SHARE)
    checked = _check(settings, found, decoded, threads)
    if not skip_bad:
        refuse_bad(checked.bad, found.layout, cut_to_fit(settings, checked.to_cut), paired=found.paired)
    targets = plan_targets(out, checked.table)
    if not targets:
        raise PairingError(f"no square was cut: {describe_bad(checked.table.skipped[0])}")
    check_folder(out, data, targets)
    say(f"{found.read_as}; {describe_cut(checked.cut)}")
    _warn(settings)
    new = _write(targets, found.sources, decoded, out, threads)
    for bad in checked.table.skipped:
        say(f"skipped: {describe_bad(bad)}")
    return CutFiles(
        new=new, kept=sum(len(target.files) for target in targets) - new, text=_next_step(settings, out, found)
    )


def _check(settings: PrepSettings, found: Discovery, decoded: Decoded, threads: int) -> Checked:
    cutting, matching = cutting_of(settings), matching_of(settings)
    inspected = inspect_pairs(found, threads=threads, cutting=cutting, measured=matching.measured, decoded=decoded)
    watched = track(inspected, what="checking", unit="pair", total=len(found.candidates))
    return collect_pairs(found, watched, cutting, matching)


def _warn(settings: PrepSettings) -> None:
    """Say what a store could not make of such tiles, for other uses any side is good; and what is not done here."""
    if settings.split is SplitRule.BY_SLIDE or settings.val_fraction or settings.val_slides:
        say("note: the files keep the split that the data come with; give split, val_fraction and slides to the build")
    try:
        check_tile_side(settings)
    except SchemaError as error:
        say(f"note: a store with these settings refuses such tiles: {error}")


def _write(targets: list[Target], sources: Sources, decoded: Decoded, out: Path, threads: int) -> int:
    """Write what is missing; the number of new files."""
    decoded.expect(target.pair for target in targets)
    new = 0
    total = len(targets)
    with (
        progress(total=total, what="cutting", unit="square") as bar,
        stop_requests(say) as stop,
        ThreadPoolExecutor(threads) as pool,
    ):
        for start in range(0, total, TOGETHER):
            if stop.requested:
                raise Interrupted(f"{start} of {total} squares are in {out}; run the same command to go on")
            some = targets[start : start + TOGETHER]
            new += sum(pool.map(partial(_write_pair, sources, decoded), some))
            bar.update(len(some))
    return new


def _write_pair(sources: Sources, decoded: Decoded, target: Target) -> int:
    """Write the tiles of a target, unless they are there; the number of new files."""
    tiles = dict(zip(Stain, read_pair(sources, target.pair, decoded), strict=True))
    return sum(_write_tile(file, tiles[stain]) for stain, file in target.files.items())


def _write_tile(file: Path, tile_u8: PictureU8) -> bool:
    """Write a tile; False if the file is there. Raises StoreError if it holds anything else."""
    if not file.exists():
        write_png(file, tile_u8)
        return True
    remedy = "remove it and run the command again, or name another folder with --out"
    try:
        same = np.array_equal(read_picture(file), tile_u8)
    except PictureError as error:
        raise StoreError(f"{error}; {remedy}") from error
    if not same:
        raise StoreError(f"{file} is there and holds other pixels than this cut gives; {remedy}")
    return False


def _next_step(settings: PrepSettings, out: Path, found: Discovery) -> str:
    """How a store is built of the files, with what was set that a store needs and a cut does not."""
    pattern = pattern_of_squares(found, settings.slide_pattern)
    shown = [f"slide_pattern={pattern}"]
    shown += ["split=by-slide"] if not found.published else []
    shown += ["paired=false"] if not found.paired else []
    shown += [f"{key}={value}" for key in FOR_A_STORE if (value := getattr(settings, key)) != getattr(USUAL, key)]
    slides = {key: list(named) for key in ("test_slides", "val_slides") if (named := getattr(settings, key))}
    shown += [f"{key}={json.dumps(named, ensure_ascii=False)}" for key, named in slides.items()]
    command = f"prep build --data {shlex.quote(str(out))} --store STORE {how_to_set(*shown)}"
    if pattern == OF_SQUARES and len({one.slide for one in found.candidates}) < len(found.candidates):
        command += "; that makes a slide of each picture, because the names do not say which pictures are of one slide"
    return f"to build a store of them: {command}"
