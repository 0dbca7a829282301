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
from store.slides.reading.kinds import is_slide, is_zarr
from store.slides.writing.plan import OutputKind
from store.untrusted.names import folded
from train.translate.inputs import Found, find_pictures

LOCK = ".lock"  # the ending of what says that an output is being made
ENDING = f"{LOCK}.00000000{PARTIAL}"  # the longest of what is beside an output: a lock while it is made
BESIDE = 40  # bytes of names below an output


class Format(StrEnum):
    """What translations are written as: a kind of file; `auto` depends on the input."""

    AUTO = "auto"
    PNG = OutputKind.PNG
    JPEG = OutputKind.JPEG
    TIFF = OutputKind.TIFF
    OME_TIFF = OutputKind.OME_TIFF
    OME_ZARR = OutputKind.OME_ZARR


def format_of(text: str) -> Format:
    """The format that a user names. Raises SettingsError."""
    try:
        return Format(text)
    except ValueError as error:
        raise SettingsError(f"--format {text}: is none of {', '.join(Format)}") from error


SUFFIX_OF = {
    OutputKind.PNG: ".png",
    OutputKind.JPEG: ".jpg",
    OutputKind.TIFF: ".tiff",
    OutputKind.OME_TIFF: ".ome.tiff",
    OutputKind.OME_ZARR: ".ome.zarr",
}
KIND_OF = {  # longer suffixes first: the first one that fits counts
    ".ome.tiff": OutputKind.OME_TIFF,
    ".ome.tif": OutputKind.OME_TIFF,
    ".ome.zarr": OutputKind.OME_ZARR,
    ".zarr": OutputKind.OME_ZARR,
    ".png": OutputKind.PNG,
    ".jpg": OutputKind.JPEG,
    ".jpeg": OutputKind.JPEG,
    ".tiff": OutputKind.TIFF,
    ".tif": OutputKind.TIFF,
}
PLAIN_TIFF = (".tif", ".tiff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A picture, and the file or OME-Zarr folder that its translation becomes."""

    source: Path
    output: Path
    kind: OutputKind

    @property
    def lock(self) -> Path:
        """Held by the process that makes the output."""
        return self.output.with_name(self.output.name + LOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The pictures in the order in which they are translated, and the other files in folders."""

    items: tuple[Item, ...]
    others: tuple[Path, ...]


def plan_names(inputs: Sequence[str], out: Path, wanted: Format) -> Listing:
    """What `inputs` become below `out`, or as the file `out` if they are one picture and `out` ends as a file.

    Raises SettingsError or PictureError where something does not go together or is not there, and StoreError for a name
    that is too long.
    """
    check_length(out)
    found, others = find_pictures(inputs)
    alone = len(found) == 1 and found[0].folder is None
    is_folder = out.is_dir() and not is_zarr(out)
    if alone and not is_folder and (out.suffix or _kind_of(out.name)):
        items = [_as_file(found[0], out, wanted)]
    else:
        _check_folder(out, found)
        items = [_in_folder(one, out, wanted) for one in found]
    _check(items)
    return Listing(items=tuple(items), others=tuple(others))


def _as_file(one: Found, out: Path, wanted: Format) -> Item:
    """The picture as the file `out`, whose suffix says the format. Raises SettingsError."""
    said = _kind_of(out.name)
    if said is None:
        raise SettingsError(
            f"--out {out}: {out.suffix!a} is no format that is written; use one of {', '.join(KIND_OF)}, or make the "
            "folder before if it is one"
        )
    if wanted not in (Format.AUTO, Format(said)):
        raise SettingsError(
            f"--out {out} with --format {wanted}: give one of them, or an --out in {SUFFIX_OF[OutputKind(wanted)]}"
        )
    return Item(source=one.path, output=out, kind=said)


def _in_folder(one: Found, out: Path, wanted: Format) -> Item:
    kind = _usual(one.path) if wanted is Format.AUTO else OutputKind(wanted)
    return Item(source=one.path, output=out / one.name.with_name(_stem(one.name.name) + SUFFIX_OF[kind]), kind=kind)


def _usual(path: Path) -> OutputKind:
    """The kind of a translation where none is asked for."""
    if is_slide(path):
        return OutputKind.OME_TIFF
    return OutputKind.TIFF if path.suffix.lower() in PLAIN_TIFF else OutputKind.PNG


def _kind_of(name: str) -> OutputKind | None:
    """What a suffix says."""
    return next((kind for suffix, kind in KIND_OF.items() if name.lower().endswith(suffix)), None)


def _stem(name: str) -> str:
    """A name without its suffix.

    >>> _stem("a.b.ome.tif"), _stem("case 1.2.jpg"), _stem("slide")
    ('a.b', 'case 1.2', 'slide')
    """
    known = next((suffix for suffix in KIND_OF if name.lower().endswith(suffix)), PurePosixPath(name).suffix)
    return name.removesuffix(name[len(name) - len(known) :]) or name


def _check_folder(out: Path, found: Sequence[Found]) -> None:
    """Refuse an output folder that is a file or named as one, or that lies in a folder that is translated."""
    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out {out}: is a file, and {len(found)} pictures need a folder; name a folder")
    if not out.is_dir() and (said := _kind_of(out.name)):
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
