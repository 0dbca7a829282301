"""From what a user names, files, folders, OME-Zarr folders and lists of them, to the pictures in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from store.foreign.picture_files import files_below, is_picture
from store.schema import PictureError, SettingsError
from store.slides.reading.kinds import is_slide_name, is_zarr
from store.untrusted.documents import DocumentError, read_document

LISTED = 10_000_000  # bytes of a list of pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A picture, its name below the output folder, and the folder in which it was found, if it was in one."""

    path: Path
    name: PurePosixPath
    folder: Path | None = None


def find_pictures(inputs: Sequence[str]) -> tuple[list[Found], int]:
    """The pictures of all inputs in their order, and how many files in folders are none.

    An input is a file, a folder, which is searched with those below it, or `@list.txt`, a text file with an input in
    each line. Raises SettingsError or PictureError where something is not there, or where there is no picture.
    """
    found, others = list[Found](), 0
    for text, base in _expanded(inputs):
        pictures, more = _find(text, base)
        found += pictures
        others += more
    if not found:
        raise PictureError(
            f"no picture in {', '.join(inputs)}: none of {others} files ends in .jpg, .png, .tif, .bmp, .svs or "
            "another suffix that is read; name the folder that has them"
        )
    return found, others


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


def _find(text: str, base: Path | None) -> tuple[list[Found], int]:
    """The pictures of one input, and how many files in it are none."""
    path = Path(text) if base is None else base / text
    try:
        if not path.exists():
            raise PictureError(f"{path}: no such file or folder; check the path, or whether a link points nowhere")
        if not path.is_dir() or is_zarr(path):
            return [Found(path=path, name=_own_name(text, base))], 0
        entries = list(files_below(path, is_zarr))
    except OSError as error:
        raise PictureError(f"{path}: cannot be looked into ({error.strerror}); mend that or leave it out") from error
    pictures = [entry for entry in entries if entry.is_dir() or is_picture(entry.name) or is_slide_name(entry.name)]
    names = (PurePosixPath(entry.relative_to(path).as_posix()) for entry in pictures)
    found = [Found(path=entry, name=name, folder=path) for entry, name in zip(pictures, names, strict=True)]
    return found, len(entries) - len(pictures)


def _own_name(text: str, base: Path | None) -> PurePosixPath:
    """The name of a picture below the output folder: in a list its path, if that is relative to the list."""
    named = PurePosixPath(text)
    inside = base is not None and not named.is_absolute() and ".." not in named.parts
    return named if inside else PurePosixPath(Path(text).absolute().name)
