"""Contact sheets: pictures side by side with captions, for a person.

Lengths are pixels of the sheet, pictures are u8 [H,W,3] RGB. A sheet is drawn as bands of its full width, stacked from
top to bottom. OpenCV 5 draws text of any script; OpenCV 4 draws question marks for text that is not ASCII.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from store.images import PictureU8
from store.overview import describe_picture
from store.reader import TILE, Store
from store.schema import Box, SchemaError, Split, Stain, StoreError

MARGIN, GAP = 24, 12
NARROWEST = 560  # so that a sheet of one small picture has room for its title
PAPER, FRAME, RULE = 255, 205, 225  # grey values

COLOURS = ((0, 160, 255), (0, 200, 70), (250, 210, 0))  # of boxes, RGB: unlike the colours of H&E and DAB
LINE = 1 / 128  # thickness of the line of a box, as a fraction of the side of the tile


@dataclass(frozen=True, slots=True, kw_only=True)
class Ink:
    """How a kind of text is drawn: OpenCV font and scale, RGB colour, height of a line."""

    font: int
    scale: float
    colour: tuple[int, int, int]
    line: int


TITLE = Ink(font=cv2.FONT_HERSHEY_DUPLEX, scale=0.75, colour=(24, 30, 42), line=28)
HEAD = Ink(font=cv2.FONT_HERSHEY_DUPLEX, scale=0.52, colour=(24, 30, 42), line=26)
LABEL = Ink(font=cv2.FONT_HERSHEY_DUPLEX, scale=0.45, colour=(70, 80, 96), line=24)
CAPTION = Ink(font=cv2.FONT_HERSHEY_SIMPLEX, scale=0.45, colour=(70, 80, 96), line=22)
FOOTER = Ink(font=cv2.FONT_HERSHEY_SIMPLEX, scale=0.42, colour=(110, 118, 132), line=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Pictures side by side under one label, each with a caption below it if there are `captions`.

    Pictures are u8 [H,W,3] RGB of any size. Captions are for the first pictures; an empty one leaves a gap.
    """

    label: str
    pictures: tuple[PictureU8, ...]
    captions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.captions) > len(self.pictures):
            raise SchemaError(f"row {self.label!r}: {len(self.captions)} captions for {len(self.pictures)} pictures")
        for picture in self.pictures:
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
                raise SchemaError(f"row {self.label!r}: a picture is {picture.dtype} {picture.shape}, not u8 [H,W,3]")


def draw_sheet(*, title: str, columns: Sequence[str], rows: Sequence[Row], footer: str, side: int = 256) -> PictureU8:
    """A sheet of `rows` under the heads `columns`, u8 [H,W,3] RGB; each picture is resized to the longer side `side`.

    Title and footer are wrapped; heads, labels and captions that are too long end in "...". Raises SchemaError.
    """
    if not columns or side < 16:
        raise SchemaError(f"a sheet of {len(columns)} columns with pictures of {side} px: use at least 1 and 16 px")
    for row in rows:
        if len(row.pictures) > len(columns):
            raise SchemaError(f"row {row.label!r} has {len(row.pictures)} pictures, the sheet {len(columns)} columns")
    width = max(2 * MARGIN + len(columns) * (side + GAP) - GAP, NARROWEST)
    room = width - 2 * MARGIN
    bands = [_space(width, MARGIN), _lines(_wrap(title, TITLE, room), TITLE, width), _space(width, GAP)]
    bands.append(_cells(columns, HEAD, side, width))
    for row in rows:
        bands += [_rule(width), *_row(row, side, width)]
    bands += [_rule(width), _lines(_wrap(footer, FOOTER, room), FOOTER, width), _space(width, MARGIN // 2)]
    return np.vstack(bands)


def _row(row: Row, side: int, width: int) -> list[PictureU8]:
    bands = [_lines([_shorten(row.label, LABEL, width - 2 * MARGIN)], LABEL, width)] if row.label else []
    fitted = [_fit(picture, side) for picture in row.pictures]
    band = _space(width, max((picture.shape[0] for picture in fitted), default=0) + 2)
    for picture, left in zip(fitted, _lefts(len(fitted), side), strict=True):
        high, wide = picture.shape[:2]
        band[: high + 2, left - 1 : left + wide + 1] = FRAME  # so that white tissue has an edge on white paper
        band[1 : high + 1, left : left + wide] = picture
    bands.append(band)
    if any(row.captions):
        bands.append(_cells(row.captions, CAPTION, side, width))
    return [*bands, _space(width, GAP // 2)]


def _fit(picture: PictureU8, side: int) -> PictureU8:
    """The picture resized to the longer side `side`: area average to reduce, repeated pixels or linear to enlarge."""
    high, wide = picture.shape[:2]
    longer = max(high, wide)
    size = (max(1, round(wide * side / longer)), max(1, round(high * side / longer)))
    enlarge = cv2.INTER_LINEAR if side % longer else cv2.INTER_NEAREST
    how = cv2.INTER_AREA if longer > side else enlarge
    return np.asarray(cv2.resize(picture, size, interpolation=how), dtype=np.uint8)


def _lefts(count: int, side: int) -> range:
    return range(MARGIN, MARGIN + count * (side + GAP), side + GAP)


def _space(width: int, height: int) -> PictureU8:
    return np.full((height, width, 3), PAPER, dtype=np.uint8)


def _rule(width: int) -> PictureU8:
    band = _space(width, GAP)
    band[GAP // 3, MARGIN : width - MARGIN] = RULE
    return band


def _lines(lines: Sequence[str], ink: Ink, width: int) -> PictureU8:
    band = _space(width, ink.line * len(lines))
    for index, line in enumerate(lines):
        _write(band, line, ink, left=MARGIN, top=index * ink.line)
    return band


def _cells(texts: Sequence[str], ink: Ink, side: int, width: int) -> PictureU8:
    band = _space(width, ink.line)
    for text, left in zip(texts, _lefts(len(texts), side), strict=True):
        _write(band, _shorten(text, ink, side), ink, left=left, top=0)
    return band


def _write(band: PictureU8, text: str, ink: Ink, *, left: int, top: int) -> None:
    base = top + round(0.72 * ink.line)
    cv2.putText(band, text, (left, base), ink.font, ink.scale, ink.colour, 1, cv2.LINE_AA)


def _printable(text: str) -> str:
    """One line of printable characters, `?` for the others: a file name may contain anything."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def _width(text: str, ink: Ink) -> int:
    (length, _), _ = cv2.getTextSize(text, ink.font, ink.scale, 1)
    return int(length)


def _shorten(text: str, ink: Ink, room: int) -> str:
    text = _printable(text)
    if _width(text, ink) <= room:
        return text
    while text and _width(text + "...", ink) > room:
        text = text[:-1]
    return text.rstrip() + "..."


def _wrap(text: str, ink: Ink, room: int) -> list[str]:
    """The text in lines of at most `room` px; a word that does not fit is shortened."""
    lines: list[str] = []
    for word in _printable(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _width(longer, ink) <= room:
            lines[-1] = longer
        else:
            lines.append(_shorten(word, ink, room))
    return lines


def stains_shown(store: Store, split: Split, stain: Stain | None) -> tuple[Stain, ...]:
    """The stains of a contact sheet: both of a pair, one of an unpaired store, which are of different places."""
    if stain:
        return (stain,)
    return tuple(Stain) if store.manifest.paired else tuple(one for one in Stain if store.rows(split, one))[:1]


def find_row(store: Store, split: Split, pair: str, stain: Stain = Stain.HE) -> int:
    """The row of a pair, given its id or its number from 0. Raises StoreError with the nearest ids.

    In an unpaired store it is the row of a tile of `stain`.
    """
    pairs = store.pairs(split)
    ids = [pairs[row].id_of(stain) for row in store.rows(split, stain)]
    if not ids:
        what = "pairs" if store.manifest.paired else f"{stain.spoken} tiles"
        raise StoreError(f"no {what} in {split} of {store.address}; it has {', '.join(store.manifest.counts)}")
    if pair in ids:
        return ids.index(pair)
    if pair.isdecimal() and int(pair) < len(ids):
        return int(pair)
    near = ", ".join(difflib.get_close_matches(pair, ids, n=3, cutoff=0.0))
    what = "pair" if store.manifest.paired else f"{stain.spoken} tile"
    raise StoreError(
        f"no {what} {pair!r} in {split} of {store.address}; give 0 to {len(ids) - 1} or an id, such as {near}"
    )


def draw_pair(store: Store, split: Split, row: int, stain: Stain | None = None) -> NDArray[np.uint8]:
    """The contact sheet of the pair in `row` of a split, u8 [H,W,3] RGB; of an unpaired store, or with `stain`, of one.

    Raises StoreError if the row of an unpaired store has no such tile.
    """
    manifest, pair = store.manifest, store.pairs(split)[row]
    shown = stains_shown(store, split, stain)
    rows = [_draw_tile(store, split, row, shown)] if TILE in store.views(split) else []
    rows += [
        _draw_view(store, split, row, view.name, index, shown) for view in manifest.views for index in range(view.count)
    ]
    unpaired = "" if manifest.paired else "unpaired; "
    files = " and ".join(pair.tile_of(stain) for stain in shown)
    return draw_sheet(
        title=(
            f"{'SYNTHETIC, drawn and not tissue: ' if manifest.synthetic else ''}{manifest.name} {split} "
            f"{pair.id_of(shown[0])}, "
            f"enlarged by {manifest.upscaler.name}"
        ),
        columns=tuple(stain.spoken for stain in shown),
        rows=rows,
        footer=(
            f"{unpaired}slide {pair.slide_of(shown[0])}; {files}; recipe {manifest.recipe}; seal {manifest.seal[:12]}"
        ),
        side=320,
    )


def _draw_tile(store: Store, split: Split, row: int, shown: Sequence[Stain]) -> Row:
    """The tile as delivered, with the boxes of all zooms above 1."""
    zoomed = [view for view in store.manifest.views if view.zoom > 1]
    pictures = []
    for stain in shown:
        picture = store.picture(split, TILE, stain, row)
        for place, view in enumerate(zoomed):
            for index in range(view.count):
                _outline(picture, store.box(split, view.name, row, index, stain), COLOURS[place % len(COLOURS)])
        pictures.append(picture)
    return Row(label=f"tile: {store.side(TILE)} px as delivered, with the boxes of the views", pictures=tuple(pictures))


def _draw_view(store: Store, split: Split, row: int, view: str, index: int, shown: Sequence[Stain]) -> Row:
    box = store.box(split, view, row, index, shown[0])
    return Row(
        label=f"{view}: {describe_picture(store.manifest.view(view), store.manifest)}",
        pictures=tuple(store.picture(split, view, stain, row, index) for stain in shown),
        captions=(f"box: {box.side} px at top {box.top}, left {box.left}",),
    )


def _outline(picture: NDArray[np.uint8], box: Box, colour: tuple[int, int, int]) -> None:
    """Draw the inside edge of a box into `picture`, u8 [H,W,3]."""
    line = max(1, round(LINE * picture.shape[0]))
    window = picture[box.top : box.top + box.side, box.left : box.left + box.side]
    window[:line] = window[-line:] = window[:, :line] = window[:, -line:] = colour
