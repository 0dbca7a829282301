"""Folders of drawn tiles, and builds of stores from them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2

from prep.build.run import build
from prep.build.runner import Processes
from prep.settings import Enlarger, PrepSettings
from prep.tiles.discovery import Data
from tests.support.stores import draw_tile

SIDE = 128
TILES = [f"s{slide}_{row}_0" for slide in (1, 2, 3) for row in range(3)]


def lanczos(**changes: object) -> PrepSettings:
    """Settings for tiles of SIDE px."""
    return PrepSettings(**{"upscaler": Enlarger.LANCZOS, "view_side": 64, "unit": 2, "margin": 4, **changes})  # type: ignore[arg-type] # a test names its changes


def write_tiles(folder: Path, names: list[str], key: int) -> None:
    """Draw a PNG of SIDE px for each name; `key` tells one stain from the other."""
    folder.mkdir(parents=True)
    for index, name in enumerate(names):
        assert cv2.imwrite(str(folder / f"{name}.png"), draw_tile(SIDE, key, index)[..., ::-1])


def single(data: Path) -> Data:
    """One data folder that holds both stains."""
    return Data(he=data, ihc=data)


def run(settings: PrepSettings, data: Path, store: Path | str, *, skip_bad: bool = False) -> None:
    """Build a store from a data folder in this process."""
    build(settings, single(data), store, skip_bad=skip_bad, processes=Processes(threads=2))


def digest(folder: Path) -> dict[str, str]:
    """The sha256 of every file in a folder, by name."""
    return {
        f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in folder.rglob("*")
        if f.is_file()
    }


def command(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python -m prep` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "prep", *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )
