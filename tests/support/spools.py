"""Pictures that are drawn, put into spools core by core, and their pyramids by a plain formula."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from store.images import PictureU8
from store.slides.geometry import Rect
from store.slides.writing.finish import Finished, finish, is_made
from store.slides.writing.plan import OutputKind, SpoolPlan, Unit, plan_spool
from store.slides.writing.spool import Spool

SHAPES = [(1, 1), (1, 5000), (300, 517), (64, 64), (129, 65)]
SIDE = 64
MPP = 0.2527


def drawn(height: int, width: int) -> PictureU8:
    """Noise, u8 [height,width,3]."""
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blurred(height: int, width: int) -> PictureU8:
    """Waves, u8 [height,width,3], which JPEG keeps to a few grey levels."""
    rows, columns = np.mgrid[:height, :width] / 40
    return np.stack([127 + 100 * np.sin(rows + c) * np.cos(columns - c) for c in range(3)], axis=2).astype(np.uint8)


def cores(plan: SpoolPlan, unit: Unit, picture: PictureU8) -> list[PictureU8 | None]:
    """The cores of a unit, cut from a picture."""
    rects = [plan.grid.tile(*place) for place in unit.places()]
    return [picture[rect.top : rect.bottom, rect.left : rect.right] for rect in rects]


def put_all(spool: Spool, picture: PictureU8, units: Iterable[Unit] | None = None) -> None:
    """Put what is missing, or some units."""
    for unit in spool.pending() if units is None else units:
        spool.put(unit, cores(spool.plan, unit, picture))


def written(
    out: Path,
    picture: PictureU8,
    kind: OutputKind,
    *,
    lossy: bool = False,
    side: int = SIDE,
    mpp: float | None = MPP,
    overwrite: bool = False,
) -> Finished:
    """Write a picture as whoever translates it does; the same call resumes."""
    height, width = picture.shape[:2]
    spool = Spool.open(
        out.with_name(f"{out.name}.partial"), plan_spool(kind, height, width, side, "drawn", lossy=lossy)
    )
    if not is_made(spool, out):
        put_all(spool, picture)
    return finish(spool, out, kind, mpp, "a drawn picture", overwrite=overwrite)


def whole(spool: Spool) -> Rect:
    """All of a picture."""
    return Rect(top=0, left=0, height=spool.plan.height, width=spool.plan.width)


def plain_halves(picture: PictureU8, count: int) -> list[PictureU8]:
    """The picture and `count` levels, each pixel the mean of its four, pixel by pixel."""
    levels = [picture]
    for _ in range(count):
        below = levels[-1].astype(int)
        height, width = below.shape[:2]
        rows, columns = np.arange(0, height, 2), np.arange(0, width, 2)
        lower, right = np.minimum(rows + 1, height - 1), np.minimum(columns + 1, width - 1)
        four = [below[np.ix_(r, c)] for r in (rows, lower) for c in (columns, right)]
        levels.append(((sum(four) + 2) // 4).astype(np.uint8))  # halves are rounded up
    return levels


def files_below(path: Path) -> dict[str, bytes]:
    """The bytes of a file, or of every file in a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
