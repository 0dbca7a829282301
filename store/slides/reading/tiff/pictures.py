"""Which pictures a TIFF file holds: the whole one, the same at smaller scales, and others beside it."""

from __future__ import annotations

import contextlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from store.pictures.claims import scale_of
from store.schema import PictureError
from store.slides.reading.slide import is_smaller
from store.slides.reading.tiff.directories import Directory, TiffDirectories, damaged, open_directories
from store.slides.reading.tiff.ome_xml import OmePicture, ome_pictures, why_several
from store.slides.reading.tiff.page import APERIO, Page, check_page

if TYPE_CHECKING:
    import tifffile  # takes a quarter of a second to import

PLAIN = 89_478_485  # px of a picture in strips that is decoded as a whole: what Pillow takes for safe
MOST = 64  # pictures of a slide
REDUCED = 1  # a bit of NewSubfileType
TILE_WIDTH, NDPI_VERSION, XMP = 322, 65420, 700
_STACK = re.compile(r"^images=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffPictures:
    """The pictures of an open TIFF file: directories that were checked, and the first one as tifffile reads it."""

    path: Path
    directories: TiffDirectories
    chain: tuple[Directory, ...]
    first: tifffile.TiffPage
    parser: tifffile.TiffFile

    @property
    def description(self) -> str:
        """What the first picture says of itself."""
        return str(self.first.description)

    @property
    def scanner(self) -> str:
        """The scanner whose files OpenSlide alone puts together from their pictures; empty if it is another one.

        Hamamatsu's are one JPEG each, with depths between; Leica's and Ventana's have regions at places, Ventana's with
        tiles that overlap; in those of Philips the levels are padded, and empty tiles left out.
        """
        signs = {
            "Hamamatsu": NDPI_VERSION in self.chain[0].tags,
            "Leica": "leica-microsystems.com/scn" in self.description[:2000],
            "Ventana": b"<iScan" in bytes(self.first.tags.valueof(XMP, b"") or b"")[:65536],
            "Philips": str(self.first.software).startswith("Philips"),
            "Trestle": str(self.first.software).startswith("MedScan"),
        }
        return next((name for name, found in signs.items() if found), "")

    @property
    def is_plain(self) -> bool:
        """Whether it holds one picture in strips, small enough to be decoded as a whole."""
        one = len(self.chain) == 1 and not self.chain[0].inner and TILE_WIDTH not in self.chain[0].tags
        return one and self.first.imagewidth * self.first.imagelength <= PLAIN

    def scale(self) -> tuple[float | None, str]:
        """Micrometres per pixel, None where the file does not say, and where it is from."""
        with contextlib.suppress(ValueError, TypeError, ArithmeticError):  # of numbers that are none
            unit = {2: 1.0, 3: 2.54}.get(int(self.first.tags.valueof(296, 2)), 0.0)  # per inch
            across, down = (_ratio(self.first.tags.valueof(tag, (0, 1))) for tag in (282, 283))
            info = {"dpi": (unit * across, unit * down)}
            mpp, where = scale_of(info, {270: self.description, 282: across, 283: down})
            return mpp or None, where
        return None, ""

    def check_single(self) -> tuple[OmePicture, ...]:
        """Raise PictureError where the description lists channels, depths or times; the pictures of OME-XML, if any."""
        listed = ome_pictures(self.path, self.description)
        if listed and (problem := why_several(listed[0], self.first.samplesperpixel)):
            raise PictureError(f"{self.path}: is an OME-TIFF {problem}")
        if self.description.startswith("ImageJ=") and (found := _STACK.search(self.description)) and int(found[1]) > 1:
            raise PictureError(f"{self.path}: is an ImageJ stack of {found[1]} pictures; save the one that is meant")
        return listed

    def levels(self, memory: int) -> tuple[tuple[Page, ...], int]:
        """The whole picture and its smaller scales, the largest first, and how many other pictures the file has."""
        listed = self.check_single()
        if len(self.chain) > MOST:
            raise self._several()
        base = self._check(self.first, memory)
        aperio = self.description.startswith(APERIO)
        found = [base]
        for number, place in enumerate(self.chain[0].inner):
            parsed = self._parse(self.directories.directory(place), (0, number))
            found += [self._check(parsed, memory)] if _is_level(base, parsed) else []
        for number, directory in enumerate(self.chain[1:], start=1):
            parsed = self._parse(directory, (number,))
            reduced = bool(parsed.subfiletype & REDUCED)
            if _is_level(base, parsed) and (parsed.is_tiled and not reduced if aperio else reduced):
                found.append(self._check(parsed, memory))
            elif not (reduced or len(listed) > 1 or (aperio and parsed.shape != self.first.shape)):
                raise self._several()
        others = len(self.chain) + len(self.chain[0].inner) - len(found)
        return tuple(sorted(found, key=lambda page: -page.height * page.width)), others

    def _check(self, parsed: tifffile.TiffPage, memory: int) -> Page:
        return check_page(self.path, parsed, self.directories.size, memory)

    def _parse(self, directory: Directory, index: tuple[int, ...]) -> tifffile.TiffPage:
        return _parse(self.parser, directory, index)

    def _several(self) -> PictureError:
        return PictureError(
            f"{self.path}: holds {len(self.chain)} pictures; save the one that is meant as a file of its own"
        )


def read_pictures(path: Path, file: BinaryIO) -> TiffPictures:
    """The pictures of an open TIFF file. Raises PictureError where it is damaged."""
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it warns of is checked here
    directories = open_directories(path, file)
    chain = tuple(directories.chain())
    if not chain:
        raise damaged(path, "it has no directory")
    file.seek(0)
    parser = tifffile.TiffFile(file, name=path.name, is_lsm=False, is_scanimage=False, is_ndpi=False)
    first = _parse(parser, chain[0], (0,))
    return TiffPictures(path=path, directories=directories, chain=chain, first=first, parser=parser)


def _parse(parser: tifffile.TiffFile, directory: Directory, index: tuple[int, ...]) -> tifffile.TiffPage:
    """A directory as tifffile reads it."""
    import tifffile

    parser.filehandle.seek(directory.place)
    return tifffile.TiffPage(parser, index)


def _is_level(base: Page, parsed: tifffile.TiffPage) -> bool:
    return is_smaller((base.height, base.width), (int(parsed.imagelength), int(parsed.imagewidth)))


def _ratio(value: tuple[int, int]) -> float:
    return value[0] / value[1] if value[1] else 0.0
