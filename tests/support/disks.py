"""Disks that are small or read-only, and what is in a folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def contents(folder: Path) -> dict[str, bytes]:
    """What lies in a folder: every file by its name and every folder, whose name ends in a slash."""
    found = {place.relative_to(folder).as_posix(): place for place in folder.rglob("*")}
    return {f"{name}/" if p.is_dir() else name: b"" if p.is_dir() else p.read_bytes() for name, p in found.items()}


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount a folder onto itself, read-only: unlike a mode it stops root as well."""
    with _mounted(folder, "--bind", "-o", "ro", str(folder)):
        yield


@contextmanager
def _mounted(place: Path, *words: str) -> Iterator[Path]:
    """Mount at `place` for a while; mounting needs rights that not every machine gives."""
    if shutil.which("mount") is None:
        pytest.skip("this machine has no mount command")
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *words, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let tests mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
