"""Any picture or slide by its path."""

from __future__ import annotations

from pathlib import Path

from store.pictures.ordinary import check_ordinary, reading
from store.slides.reading.by_openslide import MAKERS, open_by_openslide
from store.slides.reading.kinds import TIFF
from store.slides.reading.ome_zarr import open_ome_zarr
from store.slides.reading.tiff.source import open_tiff
from store.slides.reading.whole import open_whole
from store.slides.source import Source


def open_source(path: Path, memory: int) -> Source:
    """Open a picture file, a slide or a folder of OME-Zarr.

    `memory` bounds in bytes what is decoded as a whole, and what is kept of the parts that were read. Raises
    PictureError, in one line.
    """
    if path.is_dir():
        return open_ome_zarr(path, memory)
    check_ordinary(path)
    if maker := MAKERS.get(path.suffix.lower()):
        return open_by_openslide(path, memory, maker)
    with reading(path), path.open("rb") as file:
        head = file.read(4)
    return open_tiff(path, memory) if head in TIFF else open_whole(path, memory)
