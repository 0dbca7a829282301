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


def _picture(pixels: ET.Element) -> OmePicture:
    channels, depths, times = (int(pixels.get(f"Size{axis}", "1")) for axis in "CZT")
    return OmePicture(channels=channels, depths=depths, times=times)
