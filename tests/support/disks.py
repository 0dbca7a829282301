"""Disks that are small or read-only, and the contents of folders."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in a folder: the bytes of each file by its name, and each folder, whose name ends in a slash."""
    found = {place.relative_to(folder).as_posix(): place for place in folder.rglob("*")}
    return {f"{name}/" if p.is_dir() else name: b"" if p.is_dir() else p.read_bytes() for name, p in found.items()}


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount a folder onto itself, read-only: unlike permissions this also stops root."""
    with mounted(folder, "--bind", "-o", "ro", str(folder)):
        yield


@contextmanager
def mounted(place: Path, *words: str) -> Iterator[Path]:
    """A file system at `place`, mounted with the arguments `words`; skips the test where mounting is not allowed."""
    if shutil.which("mount") is None:
        pytest.skip("this machine has no mount command")
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *words, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not allow tests to mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a disk to its last byte, and free the space again at the end."""
    filler = disk / "filler"
    fill(filler)
    try:
        yield
    finally:
        filler.unlink()


def fill(filler: Path) -> None:
    """Make a file that takes what the disk has left."""
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 16)) == 1 << 16:
            pass
        while file.write(bytes(1 << 10)):
            pass
