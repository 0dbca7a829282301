"""What the toolkit does with files, tried in a folder: write, read, sync, rename, lock, name.

Each trial is given a folder of its own that somebody else removes, and yields what it finds.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from store.disk.flocks import Flock, try_flock
from store.doctor.findings import Finding, Level, first_line

SPAN = 1.5  # s of writing, and of reading
BLOCK, LEAST = 4 << 20, 4 << 10  # bytes
MOST = 256 << 20  # bytes of the trial
SLOW = 20  # MB/s
LATE = 5  # s between two clocks
LONG = 255  # bytes of a name
SECOND_PROCESS = """
import fcntl, sys
with open(sys.argv[1], "ab") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(7)
"""
HELD_OUT = 7  # its exit code when the lock holds it out
ELSEWHERE = "change its permissions, free some space, or name another folder"
STAND_IN = "nothing: lock files that name their machine and process hold others out"


def _speed(place: Path) -> Iterator[Finding]:
    file, most = place / "speed", min(MOST, shutil.disk_usage(place).free // 4)
    try:
        written, size = _write(file, os.urandom(max(LEAST, min(BLOCK, most))), most)
        read = _read(file)
    except OSError as error:
        text = f"nothing can be written: {first_line(error.strerror or error)}"
        yield Finding(name="write", text=text, level=Level.PROBLEM, remedy=ELSEWHERE)
        return
    text = f"{size / 1e6:,.0f} MB written at {written:,.0f} MB/s, read at {read:,.0f} MB/s"
    if size >= BLOCK and min(written, read) < SLOW:
        yield Finding(name="speed", text=text, level=Level.NOTE, remedy="keep stores on a faster disk, if there is one")
    else:
        yield Finding(name="speed", text=text)


def _write(file: Path, block: bytes, most: int) -> tuple[float, int]:
    """Write blocks to a file; MB/s until they are on the disk, and bytes."""
    with file.open("wb", buffering=0) as out:
        start, size = time.monotonic(), out.write(block)
        while size + len(block) <= most and time.monotonic() - start < SPAN:
            size += out.write(block)
        os.fsync(out.fileno())
        speed = size / max(time.monotonic() - start, 1e-6) / 1e6
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # else it is read from memory
    return speed, size


def _read(file: Path) -> float:
    """Read a file and remove it; MB/s."""
    with file.open("rb", buffering=0) as back:
        start, size = time.monotonic(), 0
        while (data := back.read(BLOCK)) and time.monotonic() - start < SPAN:
            size += len(data)
    file.unlink()
    return size / max(time.monotonic() - start, 1e-6) / 1e6


def _sync(place: Path) -> Iterator[Finding]:
    try:
        _sync_one(place)
    except OSError as error:
        yield Finding(
            name="sync",
            text=f"folders cannot be synced ({first_line(error.strerror or error)}); files are",
            level=Level.NOTE,
            remedy="nothing: after a power cut the same command makes again what is missing",
        )
    else:
        yield Finding(name="sync", text="files and folders")


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename(place: Path) -> Iterator[Finding]:
    old, new = place / "old", place / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    try:
        new.replace(old)
        fault = "" if old.read_bytes() == b"new" and not new.exists() else "the old file is still there"
    except OSError as error:
        fault = first_line(error.strerror or error)
    if fault:
        text = f"a file cannot be put in the place of another ({fault})"
        yield Finding(name="rename", text=text, level=Level.PROBLEM, remedy="name another folder for stores and runs")
    else:
        yield Finding(name="rename", text="a file takes the place of another at once")


def _lock(place: Path) -> Iterator[Finding]:
    file = place / "lock"
    with file.open("ab") as held:
        if try_flock(held) is Flock.NONE:
            text = "this file system has no locks (flock)"
            yield Finding(name="lock", text=text, level=Level.NOTE, remedy=STAND_IN)
            return
        other = subprocess.run([sys.executable, "-c", SECOND_PROCESS, str(file)], capture_output=True, check=False)
    if other.returncode == HELD_OUT:
        yield Finding(name="lock", text="a lock holds a second process out")
    else:
        text = "a lock (flock) does not hold a second process out"
        yield Finding(name="lock", text=text, level=Level.NOTE, remedy=STAND_IN)


def _permissions(place: Path) -> Iterator[Finding]:
    file = place / "sealed"
    file.touch()
    try:
        file.chmod(0o444)
        fault = "" if file.stat().st_mode & 0o777 == 0o444 else "they stay as they are"
    except OSError as error:
        fault = first_line(error.strerror or error)
    if fault:
        text = f"permissions cannot be changed ({fault}): a finished store is not protected against writing"
        yield Finding(
            name="chmod", text=text, level=Level.NOTE, remedy="nothing: `store verify` finds what was changed"
        )
    else:
        yield Finding(name="chmod", text="permissions can be changed")


def _names(place: Path) -> Iterator[Finding]:
    (place / "Case").touch()
    composed, taken_apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    notes = ["upper and lower case are one name"] if (place / "cASE").exists() else []
    try:
        (place / composed).touch()
        if (place / taken_apart).exists() or composed not in {file.name for file in place.iterdir()}:
            notes.append("the forms of Unicode are one name")
    except (OSError, UnicodeError):
        notes.append("no other letters than ASCII")
    if (longest := _longest_name(place)) < LONG:
        notes.append(f"at most {longest} bytes")
    if notes:
        remedy = "nothing for tiles whose names differ otherwise; else use another folder"
        yield Finding(name="names", text=f"of files here: {', '.join(notes)}", level=Level.NOTE, remedy=remedy)
    else:
        yield Finding(name="names", text=f"upper and lower case, all letters, {LONG} bytes")


def _longest_name(place: Path) -> int:
    """The bytes of the longest name that a file can have here, at most `LONG`."""
    shortest, longest = 1, LONG
    while shortest < longest:
        tried = longest if longest == LONG and shortest == 1 else (shortest + longest + 1) // 2
        try:
            (place / ("n" * tried)).touch()
            shortest = tried
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.ENOENT):
                raise
            longest = tried - 1
    return longest


def _links(place: Path) -> Iterator[Finding]:
    try:
        (place / "link").symlink_to("Case")
    except OSError as error:
        text = f"no symbolic links ({first_line(error.strerror or error)})"
        yield Finding(name="links", text=text, level=Level.NOTE, remedy="copy tiles instead of linking them")
    else:
        yield Finding(name="links", text="symbolic links")


def _clock(place: Path) -> Iterator[Finding]:
    file = place / "clock"
    before = time.time()
    file.write_bytes(b"now")
    ahead = file.stat().st_mtime - before
    if abs(ahead) > LATE:
        text = f"of this disk is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} that of this machine"
        remedy = "have both set by NTP: `make` goes by the times of files"
        yield Finding(name="clock", text=text, level=Level.NOTE, remedy=remedy)
    else:
        yield Finding(name="clock", text="of this disk and of this machine agree")


TRIALS: dict[str, Callable[[Path], Iterator[Finding]]] = {
    "speed": _speed,
    "sync": _sync,
    "rename": _rename,
    "lock": _lock,
    "chmod": _permissions,
    "names": _names,
    "links": _links,
    "clock": _clock,
}
