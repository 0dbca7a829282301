"""Damage to files."""

from __future__ import annotations

from pathlib import Path


def cut(file: Path) -> None:
    """Remove the second half of a file."""
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    """Remove all bytes of a file."""
    file.chmod(0o644)
    file.write_bytes(b"")


def replace_by_folder(file: Path) -> None:
    """An empty folder is where the file was."""
    file.unlink()
    file.mkdir()


def alter(file: Path) -> None:
    """Flip the lowest bit of the byte in the middle of a file, and make it writable."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
