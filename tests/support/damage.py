"""Damage to files, as disks and people do it."""

from __future__ import annotations

from pathlib import Path


def alter(file: Path) -> None:
    """Flip the lowest bit in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
