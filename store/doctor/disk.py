"""A folder and the file system that it lies on: room, and a trial of what the toolkit does with files.

All that the trial makes lies in one folder, which is removed at the end, and when the trial is stopped.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from store.doctor.findings import Finding, Level, Probe, ask, first_line
from store.doctor.trial import ELSEWHERE, STAND_IN, TRIALS

BUCKET = "s3:/"  # as a path has it
LITTLE, FEW = 5e9, 10_000  # bytes and inodes
OCTAL = re.compile(r"\\([0-7]{3})")  # how a list of mounts writes blanks and other signs
LOCAL_LOCKS = ("nolock", "local_lock=all", "local_lock=flock", "localflock")  # of NFS and Lustre: locks of one machine


def look_at_folder(folder: Path) -> Iterator[Finding]:
    """The file system of a folder, and what it can do."""
    if str(folder).startswith(BUCKET):
        text = f"{BUCKET}/{str(folder).removeprefix(BUCKET)} is in object storage, which is not tried"
        remedy = "`store verify` reads a store there"
        yield Finding(name="folder", text=text, level=Level.NOTE, remedy=remedy)
        return
    if fault := _fault(folder):
        remedy = "make it, or name another folder"
        yield Finding(name="folder", text=f"{folder} {fault}", level=Level.PROBLEM, remedy=remedy)
        return
    kind, options = file_system(folder)
    yield Finding(name="folder", text=f"{folder.absolute()} on {kind}")
    yield from ask("room", partial(_room, folder))
    try:
        with _trial_folder(folder) as place:
            for name, probe in TRIALS.items():
                yield from ask(name, partial(_tried, name, partial(probe, place)))
    except OSError as error:
        yield Finding(
            name="write",
            text=f"nothing can be made in {folder}: {first_line(error.strerror or error)}",
            level=Level.PROBLEM,
            remedy=ELSEWHERE,
        )
        return
    if found := sorted(set(LOCAL_LOCKS) & set(options)):
        yield Finding(
            name="lock",
            text=f"mounted with {found[0]}: locks hold out processes of this machine only",
            level=Level.NOTE,
            remedy=STAND_IN,
        )


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> tuple[str, list[str]]:
    """The kind of the file system that holds a folder, and the options that it is mounted with."""
    found, longest = ("an unknown file system", list[str]()), -1
    place = folder.resolve()
    if not mounts.exists():
        return found
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        words, _, rest = line.partition(" - ")
        where = Path(OCTAL.sub(lambda sign: chr(int(sign[1], 8)), words.split()[4]))
        if place.is_relative_to(where) and len(where.parts) >= longest:
            kind, *_, options = rest.split(" ")  # what is mounted may be without a name
            longest, found = len(where.parts), (kind, [*words.split()[5].split(","), *options.split(",")])
    return found


def _fault(folder: Path) -> str:
    """Why a folder cannot be tried; "" if it can."""
    try:
        if folder.is_dir():
            return ""
        return "is a file" if folder.exists() else "is not here"
    except OSError as error:
        return f"cannot be reached: {first_line(error.strerror or error)}"


def _tried(name: str, probe: Probe) -> Iterator[Finding]:
    """What a trial finds; one that cannot be made, as where there is no room for a small file, is a problem."""
    try:
        yield from probe()
    except OSError as error:
        text = f"cannot be tried: {first_line(error.strerror or error)}"
        yield Finding(name=name, text=text, level=Level.PROBLEM, remedy=ELSEWHERE)


@contextmanager
def _trial_folder(folder: Path) -> Iterator[Path]:
    """A new folder that is removed at the end; a signal to stop removes it too."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    place = folder / f".magstain-doctor-{os.getpid()}"
    before = None
    with suppress(ValueError):  # not in the main thread
        before = signal.signal(signal.SIGTERM, stop)
    try:
        place.mkdir()
        yield place
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
        shutil.rmtree(place, ignore_errors=True)


def _room(folder: Path) -> Iterator[Finding]:
    facts = os.statvfs(folder)
    free, limited = facts.f_bavail * facts.f_frsize, facts.f_files > 0
    text = f"{free / 1e9:,.1f} GB{f' and {facts.f_favail:,} inodes' if limited else ''} free"
    if free < LITTLE or (limited and facts.f_favail < FEW):
        remedy = "free some, or name another folder; `prep plan` says what a store takes"
        yield Finding(name="room", text=text, level=Level.NOTE, remedy=remedy)
    else:
        yield Finding(name="room", text=text)
