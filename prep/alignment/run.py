"""Measure how far the two pictures of every pair are apart, and write it: tables, a report, the worst pairs drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path

from prep.alignment.measured import Alignment, Measured, measured_tile
from prep.alignment.report import describe, markdown, pairs_csv, tree
from prep.alignment.sheet import draw_worst
from prep.build.bad_pairs import describe_bad
from prep.demo.draw import is_synthetic
from prep.settings import PrepSettings
from prep.tiles.checking import inspect_pairs
from prep.tiles.discovery import Data, find_candidates
from prep.tiles.inspected import Misfit, SoundPair
from prep.tiles.pairs import Discovery
from prep.tiles.squares import cutting_of
from store.cli import track
from store.files import disk_errors, write_whole
from store.format.manifest import ROOT
from store.images import write_png
from store.pairs.table import Skipped
from store.schema import PairingError, StoreError

REPORT, DOCUMENT, SHEET = "registration.md", "registration.json", "worst.png"
PAIRS, SQUARES = "pairs.csv", "squares.csv"  # the first can be given to --pairs-from


def register_data(settings: PrepSettings, data: Data, folder: Path, *, threads: int) -> str:
    """Measure the shift of every pair in the split that the data come with; a summary for a terminal.

    Raises MagstainError if no pair can be measured, or if the folder is inside a store or cannot be written.
    """
    for place in (folder.absolute(), *folder.absolute().parents):
        if (place / ROOT).exists():
            raise StoreError(f"--out {folder} is a store or inside one, {place}; give a folder elsewhere")
    discovery = find_candidates(replace(settings, registration=True), data)
    found = measure(settings, data, discovery, threads=threads)
    document = json.dumps(tree(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / (SQUARES if settings.tile_side else PAIRS), pairs_csv(found).encode())
        write_whole(folder / DOCUMENT, document.encode())
        write_whole(folder / REPORT, markdown(found).encode())
    write_png(folder / SHEET, draw_worst(found, discovery.sources))
    return describe(found)


def measure(settings: PrepSettings, data: Data, discovery: Discovery, *, threads: int) -> Alignment:
    """The shifts of all candidates that are sound, with progress on stderr. Raises PairingError if none is."""
    inspected = inspect_pairs(discovery, threads=threads, cutting=cutting_of(settings), measured=True)
    watched = track(inspected, what="registering", unit="pair", total=len(discovery.candidates))
    tiles: list[Measured] = []
    bad: list[Skipped] = [*discovery.unpaired]
    for result in chain.from_iterable(watched):
        if isinstance(result, SoundPair):
            tiles.append(measured_tile(result))
        else:
            bad.append(result.skipped if isinstance(result, Misfit) else result)
    if not tiles:
        raise PairingError(f"{data.he}: no pair can be measured: {describe_bad(bad[0])}")
    return Alignment(
        name=settings.name or data.name,
        synthetic=is_synthetic(data.he),
        read_as=discovery.read_as,
        tiles=tuple(tiles),
        bad=tuple(bad),
    )
