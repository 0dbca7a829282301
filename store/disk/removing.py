"""Remove files and folders that programs may have open: NFS keeps such files as `.nfs…`, which nobody can remove."""

from __future__ import annotations

import errno
import os
from glob import escape
from pathlib import Path

from store.cli import say, wrapped

HELD = (errno.EBUSY, errno.ENOTEMPTY, errno.EEXIST, errno.ETXTBSY)
LEFT = ".held"  # in the name of a folder that is left with what is open in it
PROC = Path("/proc")
NAMED = 3  # files, or programs, in a line


def remove_folder(folder: Path) -> None:
    """Remove a folder, or link, so that its name is free.

    What is open stays beside it in a folder of another name; a line says what and by whom, and the next removal of the
    same folder tries again. Raises OSError if the folder can neither be removed nor renamed.
    """
    for earlier in folder.parent.glob(f"{escape(folder.name)}{LEFT}-*"):
        _clear(earlier)
    if not (folder.exists() or folder.is_symlink()):
        return
    held = _clear(folder)
    if not folder.exists():
        return
    what = _described(held)
    left = folder.rename(folder.with_name(f"{folder.name}{LEFT}-{os.urandom(3).hex()}"))
    say(wrapped(f"note: {what} stays in {left}: the next run of the same command removes it"))


def remove_file(file: Path) -> None:
    """Remove a file if it exists; one that is open and therefore cannot be removed stays, and a line says so."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in HELD:
            raise
        say(wrapped(f"note: {_described([file])} cannot be removed: the next run of the same command removes it"))


def _clear(folder: Path) -> list[Path]:
    """Remove a folder with all it holds, as far as nothing in it is open; returns what is."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return []
    held = []
    for place, folders, files in os.walk(folder, topdown=False, onerror=_refuse):
        for name in (*files, *folders):
            path = Path(place, name)
            try:
                path.rmdir() if name in folders and not path.is_symlink() else path.unlink(missing_ok=True)
            except OSError as error:
                if error.errno not in HELD:
                    raise
                if name not in folders:
                    held.append(path)
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in HELD:
            raise
    return held


def _refuse(error: OSError) -> None:
    raise error


def _described(held: list[Path]) -> str:
    """Files that are open, and the programs of this machine that have them open."""
    more = f" and {len(held) - NAMED} more" if len(held) > NAMED else ""
    names = ", ".join(file.name for file in held[:NAMED]) or "what a program has open"
    programs = _holders(held)
    by = ", ".join(programs[:NAMED]) if programs else "a program that this one cannot see, perhaps on another machine"
    return f"{names}{more}, open in {by},"


def _holders(files: list[Path]) -> list[str]:
    """The programs of this machine that have one of the files open, as far as this user may know."""
    wanted, found = {_identity(file) for file in files if file.exists()}, list[str]()
    for process in PROC.glob("[0-9]*"):
        try:
            if any(_identity(link) in wanted for link in (process / "fd").iterdir()):
                found.append(f"{(process / 'comm').read_text(errors='replace').strip()} (pid {process.name})")
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


def _identity(file: Path) -> tuple[int, int]:
    """Device and inode, of a link those of what it shows."""
    facts = file.stat()
    return facts.st_dev, facts.st_ino
