"""Any picture or slide by its path."""

from __future__ import annotations

from pathlib import Path

from store.images import check_ordinary
from store.slides.reading.whole import open_whole
from store.slides.source import Source


def open_source(path: Path, memory: int) -> Source:
    """Open a picture file, a slide or a folder of OME-Zarr.

    `memory` bounds in bytes what is decoded as a whole, and what is kept of the parts that were read. Raises
    PictureError, in one line.
    """
    check_ordinary(path)
    return open_whole(path, memory)
