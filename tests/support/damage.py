"""Damage to files."""

from __future__ import annotations

from pathlib import Path


def alter(file: Path) -> None:
    """Flip the lowest bit of the byte in the middle of a file, and make it writable."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
