"""A contact sheet of the pairs that are furthest apart: both pictures, and both together before and after the shift."""

from __future__ import annotations

import numpy as np

from prep.alignment.measured import Alignment, Measured
from prep.registration.density import DensityMap, densities
from prep.registration.matching import common_parts
from prep.tiles.layouts import Sources
from prep.tiles.reading import read_pair
from store.contact_sheet import Row, draw_sheet
from store.images import PictureU8
from store.pairs.shifts import SURE

SIDE = 256  # px of a picture on the sheet
FIELDS = 6  # of the checkerboard, in each direction
FRAME = (0, 160, 255)  # RGB: neither pink nor brown nor blue-violet
BRIGHTEST = 99  # percentile of a density that is drawn as full colour
COLUMNS = ("H&E", "IHC", "both, as they are", "both, IHC moved", "densities, as they are", "densities, IHC moved")


def draw_worst(found: Alignment, sources: Sources) -> PictureU8:
    """The worst pairs, u8 [H,W,3]; their files are read again."""
    worst, shifts = found.worst(), found.shifts
    return draw_sheet(
        title=(
            f"{'SYNTHETIC, drawn and not tissue: ' if found.synthetic else ''}{found.name}: the {len(worst)} worst of "
            f"{shifts.pairs} pairs, H&E against IHC"
        ),
        columns=COLUMNS,
        rows=[_draw(tile, *read_pair(sources, tile.pair)) for tile in worst],
        footer=(
            "The frames show the part that both pictures have once the IHC is moved by the shift; it is what the other "
            "columns show. Checkerboards change between H&E and IHC: borders of tissue go on from field to field where "
            "the two fit. Densities: H&E magenta, IHC green, and dark where both are dense at the same place; moved, "
            f"green and magenta beside each other should become dark. Estimates below {SURE:g} are uncertain."
        ),
        side=SIDE,
    )


def _draw(tile: Measured, he: PictureU8, ihc: PictureU8) -> Row:
    estimate = tile.registration
    fixed, moved = common_parts(he.shape[0], estimate.down), common_parts(he.shape[1], estimate.right)
    here, there = np.s_[fixed[0], moved[0]], np.s_[fixed[1], moved[1]]
    sure = "" if estimate.confidence >= SURE else "uncertain: "
    return Row(
        label=(
            f"{tile.split} {tile.pair.id}, slide {tile.pair.slide}: {sure}{estimate.distance:.1f} px of {tile.side} px "
            f"apart, confidence {estimate.confidence:.2f}"
        ),
        pictures=(
            _framed(he, here),
            _framed(ihc, there),
            checkerboard(he[here], ihc[here]),
            checkerboard(he[here], ihc[there]),
            overlay(he[here], ihc[here]),
            overlay(he[here], ihc[there]),
        ),
        captions=(
            tile.pair.he,
            tile.pair.ihc,
            "before",
            f"IHC moved {_words(-estimate.down, -estimate.right)}",
            f"likeness {likeness(he[here], ihc[here]):+.2f}",
            f"likeness {likeness(he[here], ihc[there]):+.2f}",
        ),
    )


def checkerboard(he: PictureU8, ihc: PictureU8) -> PictureU8:
    """Fields of H&E and IHC by turns, u8 [H,W,3]."""
    rows, columns = (np.arange(length) * FIELDS // length for length in he.shape[:2])
    return np.asarray(np.where(((rows[:, None] + columns) % 2 == 0)[..., None], he, ihc), np.uint8)


def overlay(he: PictureU8, ihc: PictureU8) -> PictureU8:
    """The density of red light of both, u8 [H,W,3]: H&E takes green away, and IHC red and blue."""
    first, second = (_share(picture) for picture in (he, ihc))
    return np.rint(255 * np.dstack([1 - second, 1 - first, 1 - second])).astype(np.uint8)


def likeness(he: PictureU8, ihc: PictureU8) -> float:
    """The correlation coefficient of the two densities, as they are drawn."""
    first, second = (_share(picture).ravel() for picture in (he, ihc))
    if min(float(first.std()), float(second.std())) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _share(picture: PictureU8) -> DensityMap:
    """The density of red light as a share of a high one, 0 to 1, [H,W]."""
    _, density = densities(picture)
    return np.clip(density / max(float(np.percentile(density, BRIGHTEST)), 1e-3), 0, 1)


def _framed(picture: PictureU8, part: tuple[slice, slice]) -> PictureU8:
    """The picture with the inside edge of a part drawn into it."""
    drawn, line = picture.copy(), max(1, picture.shape[0] // 128)
    inside = drawn[part]
    inside[:line] = inside[-line:] = inside[:, :line] = inside[:, -line:] = FRAME
    return drawn


def _words(down: int, right: int) -> str:
    """A move as a person says it.

    >>> _words(-3, 4)
    '3 px up, 4 px right'
    """
    vertical = f"{abs(down)} px {'down' if down > 0 else 'up'}" if down else ""
    horizontal = f"{abs(right)} px {'right' if right > 0 else 'left'}" if right else ""
    return ", ".join(part for part in (vertical, horizontal) if part) or "by nothing"
