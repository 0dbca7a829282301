"""From what a user names, files, folders, OME-Zarr folders and lists of them, to the pictures in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from store.foreign.picture_files import files_below, is_picture
from store.images import SUFFIXES
from store.schema import PictureError, SettingsError
from store.slides.reading.kinds import is_slide_name, is_zarr
from store.untrusted.documents import DocumentError, read_document

LISTED = 10_000_000  # bytes of a list of pictures
SHOWN = 3  # names in a note
UNREAD = re.compile(
    r"[^.].*\.(avif|dng|gif|hei[cf]|j2k|jfif|jp2|jpx|jxl|lif|nd2|p[gp]m|psd|tga|vsi|webp|zvi)", re.IGNORECASE
)
"""Names of pictures of kinds that are not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A picture, its name below the output folder, and the folder in which it was found, if it was in one."""

    path: Path
    name: PurePosixPath
    folder: Path | None = None


def find_pictures(inputs: Sequence[str]) -> tuple[list[Found], list[Path]]:
    """The pictures of all inputs in their order, and the other files in folders.

    An input is a file, a folder, which is searched with those below it, or `@list.txt`, a text file with an input in
    each line. Raises SettingsError or PictureError where something is not there, or where there is no picture.
    """
    found, others = list[Found](), list[Path]()
    for text, base in _expanded(inputs):
        pictures, more = _find(text, base)
        found += pictures
        others += more
    if not found:
        raise PictureError(
            f"no picture in {', '.join(inputs)}: none of {len(others)} files ends in .jpg, .png, .tif, .bmp, .svs or "
            + "another suffix that is read; name the folder that has them"
            + "".join(f"; there: {text}" for text in about_others(others))
        )
    return found, others


def about_others(others: Sequence[Path]) -> list[str]:
    """Which files in folders are not translated, in a text for each kind.

    >>> about_others([Path("in/a.gif"), Path("in/notes.txt"), Path("in/b.webp")])
    ['2 pictures of a kind that is not read (in/a.gif, in/b.webp); convert to PNG or TIFF', \
'1 file of another kind (in/notes.txt)']
    """
    unread = [path for path in others if UNREAD.fullmatch(path.name)]
    masks = [path for path in others if path.suffix.lower() in SUFFIXES and path.name[0] != "."]  # or it was a picture
    known = {*unread, *masks}
    return [
        *_counted("picture", "of a kind that is not read", unread, "; convert to PNG or TIFF"),
        *_counted("file", "named as a mask", masks),
        *_counted("file", "of another kind", [path for path in others if path not in known]),
    ]


def _counted(noun: str, kind: str, paths: Sequence[Path], remedy: str = "") -> list[str]:
    """How many files are of a kind, with the first of them; nothing of none."""
    names = ", ".join(map(str, paths[:SHOWN])) + ", …" * (len(paths) > SHOWN)
    return [f"{len(paths)} {noun}{'s' * (len(paths) > 1)} {kind} ({names}){remedy}"] if paths else []


def _expanded(inputs: Sequence[str]) -> Iterator[tuple[str, Path | None]]:
    """Each input, and the folder that it is relative to if it is in a list; lists become what is in them."""
    for text in inputs:
        if not text.startswith("@"):
            yield text, None
            continue
        file = Path(text[1:])
        for line in _lines(file):
            if line.startswith("@"):
                raise SettingsError(f"{file}: has the line {line!a}; a list names pictures and folders, no other lists")
            yield line, file.parent


def _lines(file: Path) -> list[str]:
    """The lines of a list without comments and empty ones."""
    try:
        lines = read_document(file, LISTED).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise SettingsError(
            f"@{file}: cannot be read ({error.strerror}); give a text file with a path in each line"
        ) from error
    except (DocumentError, UnicodeDecodeError) as error:
        raise SettingsError(f"@{file}: is no list of pictures ({error}); give a text file in UTF-8") from error
    listed = [line.strip() for line in lines]
    if not (kept := [line for line in listed if line and not line.startswith("#")]):
        raise SettingsError(f"@{file}: names no picture; write a path in each line, comments begin with #")
    if bad := next((line for line in kept if "\0" in line), None):
        raise SettingsError(f"@{file}: has the line {bad[:60]!a}, which is no path; give a text file")
    return kept


def _find(text: str, base: Path | None) -> tuple[list[Found], list[Path]]:
    """The pictures of one input, and the other files in it."""
    path = Path(text) if base is None else base / text
    try:
        if not path.exists():
            raise PictureError(f"{path}: no such file or folder; check the path, or whether a link points nowhere")
        if not path.is_dir() or is_zarr(path):
            return [Found(path=path, name=_own_name(text, base))], []
        entries = list(files_below(path, is_zarr))
    except OSError as error:
        raise PictureError(f"{path}: cannot be looked into ({error.strerror}); mend that or leave it out") from error
    found, others = list[Found](), list[Path]()
    for entry in entries:
        if entry.is_dir() or is_picture(entry.name) or is_slide_name(entry.name):
            found.append(Found(path=entry, name=PurePosixPath(entry.relative_to(path).as_posix()), folder=path))
        else:
            others.append(entry)
    return found, others


def _own_name(text: str, base: Path | None) -> PurePosixPath:
    """The name of a picture below the output folder: in a list its path, if that is relative to the list."""
    named = PurePosixPath(text)
    inside = base is not None and not named.is_absolute() and ".." not in named.parts
    return named if inside else PurePosixPath(Path(text).absolute().name)
