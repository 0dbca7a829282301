"""What a file or folder is, as far as it can be told without decoding it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from store.schema import PictureError
from store.slides.reading.by_openslide import MAKERS
from store.slides.reading.tiff.directories import parsing
from store.slides.reading.tiff.pictures import read_pictures

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SLIDES = frozenset({".svs", *MAKERS})
ZARR_FILES = ("zarr.json", ".zattrs", ".zgroup")


def is_slide_name(name: str) -> bool:
    """Whether a file has the suffix of a slide, and is not hidden.

    >>> [is_slide_name(name) for name in ("a.SVS", ".a.svs", "a.tif")]
    [True, False, False]
    """
    return Path(name).suffix.lower() in SLIDES and not name.startswith(".")


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr group, as an OME-Zarr is."""
    return any((folder / name).is_file() for name in ZARR_FILES)


def is_slide(path: Path) -> bool:
    """Whether a picture is read in parts: a pyramid or tiled file, or a Zarr. False for what cannot be read."""
    if path.is_dir() or is_slide_name(path.name):
        return True
    if not path.is_file():  # a pipe would be waited for
        return False
    with suppress(OSError, PictureError), path.open("rb") as file, parsing(path):
        head = file.read(4)
        file.seek(0)
        if head in TIFF:
            pictures = read_pictures(path, file)
            return bool(pictures.scanner) or not pictures.is_plain
    return False
