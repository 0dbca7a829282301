"""The synthetic set: drawn pairs of H&E and membrane IHC in MIST's layout, to try the toolkit without data.

Every file is a function of the settings. Nothing comes from a patient, and the set says so: in the names of the slides,
in a marker file and in a comment of each JPEG.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.demo.staining import DAB, EOSIN, HAEMATOXYLIN, draw_tissue, mix_dye, stain
from prep.demo.tissue import FloatMap, plan_glands, smooth_noise
from store.disk.locks import locked
from store.disk.removing import remove_folder
from store.files import disk_errors
from store.schema import FORBID_UNKNOWN, SettingsError, StoreError
from store.settings import to_toml

MARKER = "SYNTHETIC.txt"
DRAWING = 1  # a change of the code that changes pictures needs a new number
LABEL = "synthetic tissue, drawn by magstain; not from a patient"
QUALITY = 90  # of the JPEGs
MARGIN = 16  # px drawn around the tiles of a slide, more than any tile is shifted
SHIFT = 3.0  # px: largest misregistration of the two stains


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How much is drawn: `slides` of `rows` x `columns` tiles; the last `held_out` slides are the test set."""

    __pydantic_config__ = FORBID_UNKNOWN

    slides: int = 10
    held_out: int = 3
    rows: int = 3
    columns: int = 4
    tile_side: int = 256  # px
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.held_out < self.slides <= 99:
            raise SettingsError(
                f"slides = {self.slides}, held_out = {self.held_out}: at most 99 slides, of which at least one is held "
                "out and one is not, e.g. 10 and 3"
            )
        if min(self.rows, self.columns) < 1 or max(self.rows, self.columns) > 20:
            raise SettingsError(f"rows = {self.rows}, columns = {self.columns}: both must be 1 to 20, e.g. 3 and 4")
        if not 64 <= self.tile_side <= 1024 or self.tile_side % 8:
            raise SettingsError(
                f"tile_side = {self.tile_side}: must be 64 to 1024 and divide by 8; "
                f"nearest that does: {min(max(round(self.tile_side / 8) * 8, 64), 1024)}"
            )
        if self.seed < 0:
            raise SettingsError(f"seed = {self.seed}: must be >= 0, e.g. 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTile:
    """One drawn pair, u8 [H,W,3] RGB; the IHC is shifted against the H&E by up to SHIFT px."""

    row: int
    column: int
    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]


def is_synthetic(folder: Path) -> bool:
    """Whether a data folder has the marker of drawn pictures."""
    return (folder / MARKER).is_file()


def draw_demo(folder: Path, settings: DemoSettings) -> int:
    """Draw the set into `folder` unless it is complete there already; returns the number of pairs.

    Raises StoreError if the folder holds anything else, or if another process is drawing it.
    """
    files = plan_files(settings)
    if not _is_drawn(folder, settings, files):
        place = folder.absolute()
        lock = place.with_name(f".{place.name}.lock")
        with disk_errors(place.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock, f"the synthetic set {folder}"):
            if not _is_drawn(folder, settings, files):
                _draw(place, settings)
    return len(files) // 2


def _is_drawn(folder: Path, settings: DemoSettings, files: list[str]) -> bool:
    """Whether the set is complete; no if there is no folder, or an empty one. Raises StoreError for anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    _check_existing(folder, settings, files)
    return True


def _draw(place: Path, settings: DemoSettings) -> None:
    """Draw the set beside its place, and move it there when it is complete."""
    beside = place.with_name(f".{place.name}.partial")
    remove_folder(beside)
    beside.mkdir()
    _write(beside / MARKER, marker_text(settings).encode())
    for slide in range(settings.slides):
        for tile in draw_slide(slide, settings):
            for part, picture in (("A", tile.he), ("B", tile.ihc)):
                _write(beside / tile_path(slide, tile.row, tile.column, part, settings), encode_jpeg(picture))
    beside.rename(place)


def tile_path(slide: int, row: int, column: int, part: str, settings: DemoSettings) -> str:
    """The file of a tile in the set; `part` is A for H&E and B for IHC.

    >>> tile_path(9, 0, 2, "B", DemoSettings())
    'valB/synthetic10_0_2.jpg'
    """
    split = "train" if slide < settings.slides - settings.held_out else "val"
    return f"{split}{part}/synthetic{slide + 1:02d}_{row}_{column}.jpg"


def plan_files(settings: DemoSettings) -> list[str]:
    """All pictures of the set, relative to its folder."""
    return [
        tile_path(slide, row, column, part, settings)
        for slide in range(settings.slides)
        for row in range(settings.rows)
        for column in range(settings.columns)
        for part in "AB"
    ]


def marker_text(settings: DemoSettings) -> str:
    """The text of the marker file: that everything is drawn, and the settings that draw it again."""
    return f"# {LABEL}\n# drawing {DRAWING}; A is H&E, B is IHC\n{to_toml(settings)}"


def draw_slide(slide: int, settings: DemoSettings) -> Iterator[DemoTile]:
    """The tiles of one slide, cut from one canvas, so that tissue continues across their borders."""
    generator = np.random.default_rng([DRAWING, settings.seed, slide])
    side = settings.tile_side
    shape = settings.rows * side + 2 * MARGIN, settings.columns * side + 2 * MARGIN
    tissue = draw_tissue(shape, plan_glands(shape, generator), generator)
    he_dye = mix_dye((HAEMATOXYLIN, EOSIN), (0.22, 0.3), generator)
    ihc_dye = mix_dye((HAEMATOXYLIN, DAB), (0.08, 0.06), generator)
    for row in range(settings.rows):
        for column in range(settings.columns):
            top, left = MARGIN + row * side, MARGIN + column * side
            here = np.s_[top : top + side, left : left + side]
            x, y = _misregister(top, left, side, generator)
            moved = [_sample(concentration, x, y) for concentration in (tissue.ihc_haematoxylin, tissue.ihc_dab)]
            yield DemoTile(
                row=row,
                column=column,
                he=stain(tissue.he_haematoxylin[here], tissue.he_eosin[here], he_dye, generator),
                ihc=stain(moved[0], moved[1], ihc_dye, generator),
            )


def _misregister(top: int, left: int, side: int, generator: np.random.Generator) -> tuple[FloatMap, FloatMap]:
    """Canvas coordinates x and y [S,S] of the pixels of an IHC tile: shifted by at most SHIFT px."""
    y, x = np.mgrid[top : top + side, left : left + side].astype(np.float32)
    shifts = [generator.normal(0, 0.5) + 0.3 * smooth_noise((side, side), side / 3, generator) for _ in range(2)]
    length = np.maximum(np.hypot(*shifts), 1e-6)
    shrink = np.minimum(1, SHIFT / length)
    return (x + shifts[0] * shrink).astype(np.float32), (y + shifts[1] * shrink).astype(np.float32)


def _sample(concentration: FloatMap, x: FloatMap, y: FloatMap) -> FloatMap:
    return np.asarray(cv2.remap(concentration, x, y, cv2.INTER_LINEAR), np.float32)


def encode_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """A u8 [H,W,3] RGB picture as a JPEG file whose comment says that it is synthetic."""
    done, encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done, "cv2 encodes any 8-bit RGB picture"
    body, comment = encoded.tobytes(), LABEL.encode()
    return body[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + body[2:]


def _check_existing(folder: Path, settings: DemoSettings, files: list[str]) -> None:
    """Accept a folder that holds this set completely; refuse anything else."""
    if not folder.is_dir() or not is_synthetic(folder):
        raise StoreError(
            f"{folder} exists and is not a synthetic set (no {MARKER}); choose a folder that does not exist"
        )
    with disk_errors(folder):
        marker = (folder / MARKER).read_bytes()
    if marker != marker_text(settings).encode():
        raise StoreError(
            f"{folder} holds a synthetic set drawn with other settings, or its {MARKER} is damaged; remove it or "
            "choose another folder"
        )
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise StoreError(
            f"{folder}: {len(missing)} of {len(files)} pictures are missing, first {missing[0]}; remove the folder and "
            "draw it again"
        )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
