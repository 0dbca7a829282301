"""What the OME-XML in a TIFF says of the pictures in the file (OME schema 2016-06)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from store.schema import PictureError

LONGEST = 16 << 20  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class OmePicture:
    """A picture of an OME-TIFF: its channels, and how many depths and times it has."""

    channels: int
    depths: int
    times: int


def ome_pictures(path: Path, description: str) -> tuple[OmePicture, ...]:
    """The pictures that a description lists, the main one first; none if it is no OME-XML. Raises PictureError."""
    if not description.rstrip().endswith("OME>"):
        return ()
    if len(description) > LONGEST or "<!DOCTYPE" in description:  # which no OME-XML has: it could define entities
        raise PictureError(f"{path}: its OME-XML is no plain one; save it again, e.g. with QuPath or bfconvert")
    try:
        tree = ET.fromstring(description.encode())
        found = tuple(_picture(pixels) for pixels in tree.iter() if pixels.tag.endswith("}Pixels"))
    except (ET.ParseError, ValueError) as error:
        raise PictureError(f"{path}: its OME-XML cannot be read ({error}); fetch or export it again") from error
    if not found:
        raise PictureError(f"{path}: its OME-XML lists no picture: they are in other files; give one of these")
    return found


def why_several(picture: OmePicture, samples: int) -> str:
    """Why a picture is not one plane of `samples` channels, and what to do, to follow "is an OME-TIFF"; else ""."""
    if (picture.depths, picture.times) != (1, 1):
        return (
            f"of several pictures ({picture.depths} in depth, {picture.times} in time); save the one that is meant, "
            "for example with ImageJ's 'Duplicate'"
        )
    if picture.channels == samples:
        return ""
    if picture.channels == 3:
        return (
            "of 3 channels in planes of their own; if they are red, green and blue, save it as RGB, for example with "
            "Bio-Formats' `bfconvert -merge` or ImageJ's 'RGB Color'"
        )
    return f"of {picture.channels} channels, {samples} in a plane, and not of red, green and blue; save it as RGB"


def _picture(pixels: ET.Element) -> OmePicture:
    channels, depths, times = (int(pixels.get(f"Size{axis}", "1")) for axis in "CZT")
    return OmePicture(channels=channels, depths=depths, times=times)
