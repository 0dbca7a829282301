"""Which names may become files: of pairs, pictures and sources, whoever wrote them.

A name is a relative path with `/`. Files are written by the names that a store or a record holds, so a name must not
lead out of its folder, and must be one file on every disk: Windows and macOS do not tell upper from lower case, macOS
does not tell the forms of Unicode apart, and Windows gives some names to devices (Microsoft, Naming Files, Paths, and
Namespaces).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

PART_BYTES = 255  # of a file or folder, in UTF-8: the limit of ext4, XFS, APFS and NTFS (there in UTF-16 units)
NAME_BYTES = 1024  # of a whole name; a path has at most 4096 with the folders above it
TEXT_BYTES = 2048  # of a word about data, such as a slide
PICTURE = ".png"  # the ending of the picture that is written for a pair
PORTS = {f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"}
DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *PORTS}
UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
DRIVE = re.compile(r"[A-Za-z]:")
NUMBERED = re.compile(r"(\.\d+)?\.png$", re.IGNORECASE)  # what follows the id of a pair in the name of its picture


def picture_name(pair_id: str, index: int, count: int) -> str:
    """The file name of picture `index` of a pair, when a view has `count` of them.

    >>> picture_name("a/b", 0, 1), picture_name("a/b", 1, 2)
    ('a/b.png', 'a/b.1.png')
    """
    return f"{pair_id}{PICTURE}" if count == 1 else f"{pair_id}.{index}{PICTURE}"


def name_fault(name: str, ending: str = "") -> str:
    """Why a name with this `ending` cannot be a file below a folder, after the word "it"; empty if it can.

    >>> name_fault("slide 7/7_0_1"), name_fault("../7")
    ('', "has the part '..', which leads out of its folder")
    """
    if sign := UNPRINTABLE.search(name):
        return f"holds {sign[0]!r}, a control character or a byte that is not UTF-8"
    if "\\" in name:
        return "holds a backslash, which separates folders on Windows"
    if len(name.encode()) > NAME_BYTES:
        return f"has {len(name.encode()):,} bytes, more than {NAME_BYTES:,}"
    if name.startswith("/") or DRIVE.match(name):
        return "is an absolute path, not one below its folder"
    *folders, last = name.split("/")
    return next((fault for part in (*folders, last + ending) if (fault := _part_fault(part, ending))), "")


def text_fault(text: str) -> str:
    """Why a word about data, such as the name of a slide, cannot be printed, after the word "it"; empty if it can."""
    if not text.strip():
        return "is empty"
    if sign := UNPRINTABLE.search(text):
        return f"holds {sign[0]!r}, a control character or a byte that is not UTF-8"
    size = len(text.encode())
    return f"has {size:,} bytes, more than {TEXT_BYTES:,}" if size > TEXT_BYTES else ""


def clash(names: Iterable[str]) -> str:
    """Which two names cannot both have a picture in one folder, and why; empty if all can.

    >>> clash(["A_1", "a_1"])
    "'A_1' and 'a_1' are one name on disks that do not tell upper from lower case, or forms of Unicode apart"
    """
    found: dict[str, str] = {}
    for name in names:
        if (key := folded(name)) in found:
            return _same(found[key], name)
        found[key] = name
    for key, name in found.items():
        for end in (place for place, sign in enumerate(key) if sign == "/"):
            if (other := found.get(NUMBERED.sub("", key[:end]))) is not None and NUMBERED.search(key[:end]):
                return f"the picture of {other!r} would have the name of the folder of {name!r}"
    return ""


def folded(name: str) -> str:
    """A name without upper case and without a choice of Unicode form: equal for names that some disk takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _same(one: str, two: str) -> str:
    if one == two:
        return f"{one!r} occurs twice"
    return (
        f"{one!r} and {two!r} are one name on disks that do not tell upper from lower case, or forms of Unicode apart"
    )


def _part_fault(part: str, ending: str) -> str:
    """Why a part of a name, with the `ending` of the last one, cannot be a file or a folder; empty if it can."""
    word = part.removesuffix(ending)
    if not word:
        return "is empty or has an empty part"
    if word in (".", ".."):
        return f"has the part {word!r}, which leads out of its folder"
    if word[0] in " ." or word[-1] in " .":
        return f"has the part {word!r}, which begins or ends with a blank or a dot: Windows drops it, or it is hidden"
    if word.split(".")[0].rstrip().upper() in DEVICES:
        return f"has the part {word!r}, which is a device on Windows"
    size = len(part.encode())
    return f"has a part of {size:,} bytes, more than the {PART_BYTES} of a file name" if size > PART_BYTES else ""
