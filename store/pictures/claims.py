"""What a picture's file claims about its colours and its scale. Nothing of it is applied: pixels stay as they are.

Sources: ICC.1:2022 (profile header, `desc`, `mluc`, colorants), PNG third edition (gAMA, sRGB, cHRM, iCCP), EXIF 2.32,
OME-TIFF (PhysicalSizeX), the descriptions of Aperio and ImageJ. A claim that cannot be read is said to be unreadable.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from struct import unpack_from
from typing import Any

from store.untrusted.documents import shorten
from store.untrusted.text import printable

UNREADABLE = "a profile that cannot be read"
SRGB_RED_GREEN_BLUE = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))  # XYZ under D50
NEAR = 0.01  # of XYZ: versions of one profile differ by less
WIDER = 1.05  # times the volume of sRGB
PROFILE_BYTES = 16 << 20  # that are unpacked; a profile of a scanner has 0.1 to 2 MB
FINEST, COARSEST = 0.05, 20.0  # um per pixel of a microscope's picture: 72 or 300 dpi say nothing about tissue
SAME_SCALE = 0.01  # relative difference of the two directions
DESCRIPTION = 1 << 16  # characters of a description that are searched
_SRGB_WHITE_RED_GREEN_BLUE = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # xy
_OF_SRGB = "cHRM of sRGB"
_USUAL = {"sRGB", "gAMA 0.45455", _OF_SRGB, "cICP 1 13 0 1"}
_UNITS = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "mm": 1e3}
_UNITS |= {
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "cm": 1e4,
    "meter": 1e6,
    "m": 1e6,
}
_OME = {axis: re.compile(rf'PhysicalSize{axis}="([0-9.eE+-]{{1,30}})"') for axis in "XY"}
_OME_UNIT = {axis: re.compile(rf'PhysicalSize{axis}Unit="([^"]{{1,10}})"') for axis in "XY"}
_APERIO = re.compile(r"\bMPP\s*=\s*([0-9.]{1,30})")
_EXIF, _GAMMA, _COLOUR_SPACE, _INTEROP, _INDEX = 0x8769, 0xA500, 0xA001, 0xA005, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a file says: its colour profile, its gamma, um per pixel and where that is from; empty and 0 if nothing."""

    profile: str = ""
    gamma: str = ""
    mpp: float = 0.0
    mpp_from: str = ""

    @property
    def colour(self) -> str:
        """What the file says about its colours, in words; empty if nothing."""
        profile = f"profile '{self.profile}'" if self.profile else ""
        return ", ".join(filter(None, (profile, self.gamma)))

    @property
    def is_usual(self) -> bool:
        """Whether its colours are those that a picture which says nothing is taken for: sRGB."""
        said = set(self.gamma.split(", ")) if self.gamma else set()
        return said <= _USUAL and (not self.profile or is_srgb(self.profile))


NOTHING = Claims()


def profile_name(profile: bytes) -> str:
    """The description of an ICC profile, and whether its colours are other than those of sRGB. Never raises."""
    try:
        (count,) = unpack_from(">I", profile, 128)
        tags = {bytes(sig): (start, size) for sig, start, size in _entries(profile, min(count, 100))}
        name = _description(profile, *tags[b"desc"]) if b"desc" in tags else ""
        found = [_xyz(profile, tags[tag][0]) for tag in (b"rXYZ", b"gXYZ", b"bXYZ") if tag in tags]
    except (struct.error, ValueError, IndexError):
        return UNREADABLE
    name = shorten(printable(" ".join(name.split())) or "a profile without a name")
    return name + (_compare(found) if len(found) == len(SRGB_RED_GREEN_BLUE) else "")


def is_srgb(profile: str) -> bool:
    """Whether a profile, by its name here, is what a picture without one is taken for.

    >>> is_srgb("sRGB IEC61966-2.1"), is_srgb("sRGB built-in (wider than sRGB)")
    (True, False)
    """
    return profile.lower().startswith("srgb") and not profile.endswith("than sRGB)")


def unpack_profile(chunk: bytes) -> bytes:
    """The profile in the content of a chunk iCCP of a PNG; the content itself, which is none, if it is damaged."""
    _, _, packed = chunk.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(packed[1:], PROFILE_BYTES) or chunk
    except zlib.error:
        return chunk


def gamma_of(info: Mapping[Any, Any], exif: Any, code_points: bytes = b"") -> str:
    """What gAMA, sRGB, cHRM, cICP of a PNG and EXIF say of the colours; `info` and `exif` are as Pillow reads them."""
    said = []
    if code_points:
        said.append(f"cICP {' '.join(map(str, code_points[:4]))}")
    if "srgb" in info:
        said.append("sRGB")
    if isinstance(gamma := info.get("gamma"), float):
        said.append(f"gAMA {gamma:g}")
    if points := info.get("chromaticity"):
        near = all(abs(a - b) < NEAR for a, b in zip(points, _SRGB_WHITE_RED_GREEN_BLUE, strict=True))
        said.append(_OF_SRGB if near else "cHRM")
    inner = exif.get_ifd(_EXIF) if len(exif) else {}
    if gamma := inner.get(_GAMMA):
        said.append(f"EXIF gamma {float(gamma):g}")
    if inner.get(_COLOUR_SPACE) == 2 or (exif and exif.get_ifd(_INTEROP).get(_INDEX) == "R03"):
        said.append("EXIF Adobe RGB")
    return ", ".join(said)


def scale_of(info: Mapping[Any, Any], tags: Mapping[int, Any]) -> tuple[float, str]:
    """Micrometres per pixel and where the file says it; 0 if it does not, or says what no microscope has."""
    text = str(tags.get(270, ""))[:DESCRIPTION]
    if across := _ome(text, "X"):
        return plausible(across, _ome(text, "Y") or across, "OME-XML")
    if match := _APERIO.search(text):
        return plausible(float(match[1]), float(match[1]), "description, MPP")
    if text.startswith("ImageJ="):
        unit = re.search(r"^unit=(\S{1,10})", text.replace("\\u00B5", "µ"), re.MULTILINE)
        across, down = (float(tags.get(tag, 0)) for tag in (282, 283))
        um = _UNITS.get(unit[1], 0.0) if unit and across else 0.0
        return plausible(um / (across or 1.0), um / (down or across or 1.0), "ImageJ description")
    across, down = (float(dpi) for dpi in info.get("dpi", (0, 0)))
    return plausible(25400 / across, 25400 / down, "resolution tags") if across and down else (0.0, "")


def plausible(across: float, down: float, where: str) -> tuple[float, str]:
    """The micrometres per pixel of both directions if some microscope has them; 0 if not, or if they differ.

    >>> plausible(0.25, 0.2501, "OME-XML"), plausible(0.25, 0.5, "OME-XML"), plausible(352.8, 352.8, "resolution tags")
    ((0.25, 'OME-XML'), (0.0, ''), (0.0, ''))
    """
    same = abs(across - down) <= SAME_SCALE * across
    return (float(f"{across:.4g}"), where) if same and FINEST <= across <= COARSEST else (0.0, "")


def micrometres(unit: str) -> float:
    """How many micrometres a unit of length has, by its name or sign; 0 for a word that is none.

    >>> micrometres("nm"), micrometres("micrometer"), micrometres("pixel")
    (0.001, 1.0, 0.0)
    """
    return _UNITS.get(unit, 0.0)


def _ome(text: str, axis: str) -> float:
    """Micrometres per pixel along an axis in OME-XML; 0 if it does not say so."""
    match, unit = _OME[axis].search(text), _OME_UNIT[axis].search(text)
    return float(match[1]) * _UNITS.get(unit[1] if unit else "um", 0.0) if match else 0.0


def _entries(profile: bytes, count: int) -> list[tuple[bytes, int, int]]:
    return [unpack_from(">4sII", profile, 132 + 12 * n) for n in range(count)]


def _description(profile: bytes, start: int, size: int) -> str:
    """The text of a tag of type `desc` (version 2) or `mluc` (version 4, its first language)."""
    kind = profile[start : start + 4]
    if kind == b"mluc":
        length, offset = unpack_from(">II", profile, start + 20)
        return profile[start + offset : start + offset + min(length, 1000)].decode("utf-16-be", "replace")
    (length,) = unpack_from(">I", profile, start + 8)
    return profile[start + 12 : start + 12 + min(length, size, 1000)].decode("latin-1").rstrip("\0")


def _xyz(profile: bytes, start: int) -> tuple[float, ...]:
    return tuple(number / 65536 for number in unpack_from(">iii", profile, start + 8))


def _compare(colorants: list[tuple[float, ...]]) -> str:
    """How red, green and blue differ from those of sRGB, in words behind a name; empty if they do not."""
    pairs = zip(colorants, SRGB_RED_GREEN_BLUE, strict=True)
    if all(abs(a - b) < NEAR for one, other in pairs for a, b in zip(one, other, strict=True)):
        return ""
    wider = _volume(colorants) > WIDER * _volume(list(SRGB_RED_GREEN_BLUE))
    return " (wider than sRGB)" if wider else " (other colours than sRGB)"


def _volume(colorants: list[tuple[float, ...]]) -> float:
    """The volume that red, green and blue span in XYZ: a determinant."""
    (a, b, c), (d, e, f), (g, h, i) = colorants
    return abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))
