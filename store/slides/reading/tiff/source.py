"""A TIFF file as a source: in parts, or as a whole where it is one small picture in strips."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from store.images import LOSSLESS
from store.pictures.ordinary import reading
from store.slides.reading.by_openslide import open_by_openslide
from store.slides.reading.segments import Cache, Segmented
from store.slides.reading.slide import Slide
from store.slides.reading.tiff.decoding import Segments
from store.slides.reading.tiff.directories import parsing
from store.slides.reading.tiff.page import BLACK_IS_ZERO, PALETTE, WHITE_IS_ZERO, Page
from store.slides.reading.tiff.pictures import read_pictures
from store.slides.reading.whole import open_whole
from store.slides.source import Source

_MODES = {PALETTE: "P", WHITE_IS_ZERO: "L", BLACK_IS_ZERO: "L"}  # as Pillow calls them


def open_tiff(path: Path, memory: int) -> Source:
    """Open a file that begins like a TIFF; segments of at most `memory` bytes are kept. Raises PictureError."""
    with contextlib.ExitStack() as stack:
        with reading(path):
            file = stack.enter_context(path.open("rb"))
        with parsing(path):
            pictures = read_pictures(path, file)
            scanner, plain = pictures.scanner, pictures.is_plain
            pages, others = ((), 0) if scanner or plain else pictures.levels(memory)
            mpp, mpp_from = pictures.scale()
        if scanner:
            return open_by_openslide(path, memory, scanner)
        if plain:
            pictures.check_single()
            return open_whole(path, memory)
        first, lock = pages[0], threading.Lock()
        cache = Cache.of(memory, first.width, first.rows, first.columns)
        levels = [
            Segmented(
                number=number,
                height=page.height,
                width=page.width,
                rows=page.rows,
                columns=page.columns,
                load=Segments(path=path, file=file, lock=lock, page=page, number=number).load,
                cache=cache,
            )
            for number, page in enumerate(pages)
        ]
        notes, shut = _notes(pages[0], others), stack.pop_all().close
        return Slide(path=path, levels=levels, mpp=mpp, mpp_from=mpp_from, notes=notes, shut=shut)


def _notes(page: Page, others: int) -> tuple[str, ...]:
    """What reading does to the picture, and what it leaves out."""
    notes = []
    if page.photometric in _MODES:
        notes.append(f"{LOSSLESS['1' if page.bits == 1 else _MODES[page.photometric]]} to RGB")
    if page.alpha is not None:
        notes.append("drops an alpha channel, which must be opaque everywhere")
    if page.kind.dropped:
        bands = " and ".join(map(str, page.kind.dropped))
        notes.append(f"dropped band {bands}, which the file calls neither a colour nor alpha")
    if empty := int((page.lengths == 0).sum()):
        notes.append(f"{empty:,} of {len(page.lengths):,} tiles are not in the file, and become white")
    if others:
        notes.append(f"{others} more pictures in the file, such as a label, are left out")
    return tuple(notes)
