"""The listing of a data folder, on which everything else about layouts is decided. The only module here that lists.

Links are followed. Hidden names, folders that systems and annotators leave, and stores are listed as one name each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import DirEntry, scandir
from pathlib import Path

from store.foreign.picture_files import NOT_OURS, is_picture
from store.schema import PairingError

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
TABLES = (".csv", ".tsv")
STORE_ROOT = "zarr.json"
LOST = " (a link to nothing)"
PART = re.compile(r"(?P<stem>.+?)(?:[-_](?P<number>\d{3})|[-_. ]?part[-_. ]?(?P<part>\d+))(?: \(\d+\))?", re.IGNORECASE)
STAMP = re.compile(r"-\d{8}T\d{6}Z$")  # of a download, between the name of the folder and the number of the part


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder as it was listed: the names directly inside, files and everything that is not looked into.

    `paths` are relative to the data folder, "." being that itself; several if it is in several parts of a download,
    whose numbers are `parts`. `fault` says why it cannot be listed.
    """

    name: str
    paths: tuple[str, ...]
    folders: tuple[Folder, ...] = ()
    files: tuple[str, ...] = ()
    fault: str = ""
    parts: tuple[int, ...] = ()

    @property
    def pictures(self) -> int:
        """How many pictures are in it, at any depth."""
        return sum(is_picture(name) for name in self.files) + sum(folder.pictures for folder in self.folders)

    def below(self) -> Iterator[Folder]:
        """The folder itself and all below it."""
        yield self
        for folder in self.folders:
            yield from folder.below()


def list_tree(folder: Path) -> Folder:
    """The listing of a folder that a person named. Raises PairingError if it is none, or something else than tiles."""
    check_folder(folder)
    root = _list(folder, ".", folder.resolve().name, ())
    if root.fault:
        raise PairingError(f"{folder}: cannot be listed ({root.fault}); name a folder that can be read")
    return root


def check_folder(folder: Path) -> None:
    """Raise PairingError if a path that a person named is no folder, or a store."""
    if not folder.is_dir():
        raise PairingError(f"{folder}: {_no_folder(folder)}")
    if (folder / STORE_ROOT).exists():
        raise PairingError(
            f"{folder}: is a Zarr store, not a folder of tiles; name the folder of the tiles that it was built from "
            "(--data; make: DATA=), and look into the store with `python -m store info`"
        )


def _no_folder(folder: Path) -> str:
    """Why a path that was named is no folder, and what to do."""
    kind = folder.suffix.lower()
    if folder.is_file() and kind in ARCHIVES:
        return "is an archive; unpack it and name the folder"
    if folder.is_file() and kind in TABLES:
        return f"is a table, not a folder; give it with --pairs-from {folder} (make: PAIRS={folder})"
    if folder.exists():
        return "is a file; name a folder that can be read"
    if folder.is_symlink():
        return "is a link, and what it points to does not exist; correct the link or name another folder"
    return "no such folder; check the path of the tiles (--data, --he, --ihc; make: DATA=, HE=, IHC=)"


def _list(folder: Path, path: str, name: str, above: tuple[tuple[int, int], ...]) -> Folder:
    """List a folder and those below it."""
    try:
        status = folder.stat()
        with scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        return Folder(name=name, paths=(path,), fault=error.strerror or "unknown error")
    if any(entry.name == STORE_ROOT for entry in entries):
        return Folder(name=name, paths=(path,), files=(STORE_ROOT,))
    above = (*above, (status.st_dev, status.st_ino))
    folders, files = [], []
    for entry in entries:
        if not _is_folder(entry) or NOT_OURS.fullmatch(entry.name):
            lost = not is_picture(entry.name) and entry.is_symlink() and not Path(entry.path).exists()
            files.append(f"{entry.name}{LOST}" if lost else entry.name)
        elif _identity(entry) in above:
            files.append(f"{entry.name} (a link to a folder above)")
        else:
            below = entry.name if path == "." else f"{path}/{entry.name}"
            folders.append(_list(Path(entry.path), below, entry.name, above))
    return Folder(name=name, paths=(path,), folders=tuple(folders), files=tuple(files))


def _is_folder(entry: DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _identity(entry: DirEntry[str]) -> tuple[int, int]:
    status = entry.stat()
    return status.st_dev, status.st_ino


def join_parts(folder: Folder, depth: int = 2) -> Folder:
    """The listing with the parts of a download, such as HER2-001 beside HER2-002, read as one folder.

    Parts in which the same picture lies are not parts, and stay as they are.
    """
    groups: dict[str, list[tuple[int, Folder]]] = {}
    for child in folder.folders:
        match = PART.fullmatch(child.name)
        stem, number = (match["stem"], int(match["number"] or match["part"])) if match else (child.name, 0)
        groups.setdefault(STAMP.sub("", stem).casefold(), []).append((number, child))
    joined: list[Folder] = []
    for members in groups.values():
        if any(number for number, _ in members) and _apart([child for _, child in members]):
            members.sort(key=lambda member: member[0])
            joined.append(_join(members, _stem(members[0][1].name)))
        else:
            joined += [child for _, child in members]
    if depth > 1:
        joined = [join_parts(child, depth - 1) for child in joined]
    return replace(folder, folders=tuple(joined))


def _apart(parts: list[Folder]) -> bool:
    """Whether no picture lies in two of the parts."""
    names = [name for part in parts for name in _names(part)]
    return len(names) == len(set(names))


def _names(folder: Folder, prefix: str = "") -> Iterator[str]:
    yield from (prefix + name for name in folder.files if is_picture(name))
    for child in folder.folders:
        yield from _names(child, f"{prefix}{child.name.casefold()}/")


def _stem(name: str) -> str:
    """The name of a part without its number."""
    match = PART.fullmatch(name)
    return STAMP.sub("", match["stem"] if match else name)


def _join(parts: list[tuple[int, Folder]], name: str) -> Folder:
    """Several parts as one folder; folders of one name in them are one."""
    below: dict[str, list[tuple[int, Folder]]] = {}
    for number, part in parts:
        for child in part.folders:
            below.setdefault(child.name, []).append((number, child))
    return Folder(
        name=name,
        paths=tuple(path for _, part in parts for path in part.paths),
        folders=tuple(
            _join(children, child) if len(children) > 1 else children[0][1] for child, children in below.items()
        ),
        files=tuple(name for _, part in parts for name in part.files),
        parts=tuple(number for number, _ in parts if number),
    )
