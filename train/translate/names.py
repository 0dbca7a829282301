"""From pictures to the files that their translations become.

Names are kept and suffixes mapped. Everything that can be wrong with names is refused before a picture is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from store.disk.names import check_length
from store.files import PARTIAL
from store.schema import SettingsError
from store.untrusted.names import folded
from train.translate.inputs import Found, Kinds, find_pictures

RECORD, LOCK = ".json", ".lock"  # endings of what is beside an output
ENDING = f"{LOCK}.00000000{PARTIAL}"  # the longest of what is beside an output: a lock while it is made
BESIDE = 40  # bytes of names below an output


class Format(StrEnum):
    """What a translation is written as; `auto` depends on the input."""

    AUTO = "auto"
    PNG = "png"
    JPEG = "jpeg"
    TIFF = "tiff"
    OME_TIFF = "ome-tiff"
    OME_ZARR = "ome-zarr"


SUFFIX_OF = {
    Format.PNG: ".png",
    Format.JPEG: ".jpg",
    Format.TIFF: ".tiff",
    Format.OME_TIFF: ".ome.tiff",
    Format.OME_ZARR: ".ome.zarr",
}
FORMAT_OF = {  # longer suffixes first: the first one that fits counts
    ".ome.tiff": Format.OME_TIFF,
    ".ome.tif": Format.OME_TIFF,
    ".ome.zarr": Format.OME_ZARR,
    ".zarr": Format.OME_ZARR,
    ".png": Format.PNG,
    ".jpg": Format.JPEG,
    ".jpeg": Format.JPEG,
    ".tiff": Format.TIFF,
    ".tif": Format.TIFF,
}
PLAIN_TIFF = (".tif", ".tiff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A picture, and the file or OME-Zarr folder that its translation becomes."""

    source: Path
    output: Path
    format: Format

    @property
    def record(self) -> Path:
        """What was done, beside the output; written last."""
        return self.output.with_name(self.output.name + RECORD)

    @property
    def lock(self) -> Path:
        """Held by the process that makes the output."""
        return self.output.with_name(self.output.name + LOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The pictures in the order in which they are translated, and how many files in folders are no pictures."""

    items: tuple[Item, ...]
    others: int


def plan_names(inputs: Sequence[str], out: Path, wanted: Format, kinds: Kinds) -> Listing:
    """What `inputs` become below `out`, or as the file `out` if they are one picture and `out` ends as a file.

    Raises SettingsError or PictureError where something does not go together or is not there, and StoreError for a name
    that is too long.
    """
    check_length(out)
    found, others = find_pictures(inputs, kinds)
    alone = len(found) == 1 and found[0].folder is None
    is_folder = out.is_dir() and not kinds.is_zarr(out)
    if alone and not is_folder and (out.suffix or _format_of(out.name)):
        items = [_as_file(found[0], out, wanted)]
    else:
        _check_folder(out, found)
        items = [_in_folder(one, out, wanted, kinds) for one in found]
    _check(items)
    return Listing(items=tuple(items), others=others)


def _as_file(one: Found, out: Path, wanted: Format) -> Item:
    """The picture as the file `out`, whose suffix says the format. Raises SettingsError."""
    said = _format_of(out.name)
    if said is None:
        raise SettingsError(
            f"--out {out}: {out.suffix!a} is no format that is written; use one of {', '.join(FORMAT_OF)}, or make the "
            "folder before if it is one"
        )
    if wanted not in (Format.AUTO, said):
        raise SettingsError(f"--out {out} with --format {wanted}: give one of them, or an --out in {SUFFIX_OF[wanted]}")
    return Item(source=one.path, output=out, format=said)


def _in_folder(one: Found, out: Path, wanted: Format, kinds: Kinds) -> Item:
    kind = wanted if wanted is not Format.AUTO else _usual(one.path, kinds)
    return Item(source=one.path, output=out / one.name.with_name(_stem(one.name.name) + SUFFIX_OF[kind]), format=kind)


def _usual(path: Path, kinds: Kinds) -> Format:
    """The format of a translation where none is asked for."""
    if kinds.is_slide(path):
        return Format.OME_TIFF
    return Format.TIFF if path.suffix.lower() in PLAIN_TIFF else Format.PNG


def _format_of(name: str) -> Format | None:
    """What a suffix says."""
    return next((kind for suffix, kind in FORMAT_OF.items() if name.lower().endswith(suffix)), None)


def _stem(name: str) -> str:
    """A name without its suffix.

    >>> _stem("a.b.ome.tif"), _stem("case 1.2.jpg"), _stem("slide")
    ('a.b', 'case 1.2', 'slide')
    """
    known = next((suffix for suffix in FORMAT_OF if name.lower().endswith(suffix)), PurePosixPath(name).suffix)
    return name.removesuffix(name[len(name) - len(known) :]) or name


def _check_folder(out: Path, found: Sequence[Found]) -> None:
    """Refuse an output folder that is a file or named as one, or that lies in a folder that is translated."""
    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out {out}: is a file, and {len(found)} pictures need a folder; name a folder")
    if not out.is_dir() and (said := _format_of(out.name)):
        raise SettingsError(
            f"--out {out}: is named as one {said} file, and the input is a folder or several; name a folder"
        )
    for folder in dict.fromkeys(one.folder for one in found if one.folder is not None):
        if out.resolve().is_relative_to(folder.resolve()):
            raise SettingsError(
                f"--out {out}: lies in {folder}, which is translated, so the next run would translate what this one "
                "writes; name a folder outside"
            )


def _check(items: Sequence[Item]) -> None:
    """Refuse outputs that get one name, that would replace an input, or whose names are too long."""
    made, sources = dict[str, Item](), {item.source.resolve(): item for item in items}
    for item in items:
        if (other := made.get(key := folded(item.output.as_posix()))) is not None:
            raise SettingsError(
                f"{other.source} and {item.source} would both become {item.output}"
                + " on disks that do not tell upper from lower case" * (other.output != item.output)
                + "; give one of them another name, or translate them into two folders"
            )
        made[key] = item
        place = item.output.resolve()
        if replaced := next((sources[at] for at in (place, *place.parents) if at in sources), None):
            raise SettingsError(
                f"the translation of {item.source} would be {item.output}, "
                + ("an input" if place in sources else f"in the input {replaced.source}")
                + "; choose another --out"
            )
        check_length(item.output, ENDING, within=BESIDE)
    for item in items:
        keys = (folded(folder.as_posix()) for folder in item.output.parents)
        if above := next((made[key] for key in keys if key in made), None):
            raise SettingsError(
                f"{above.source} would become {above.output}, which is the folder of {item.output}; give it another "
                "name"
            )
