"""Files of moments, float32 arrays: what another process or an earlier start kept is used only if it is whole."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from pathlib import Path

import numpy as np

from store.files import disk_errors, write_whole
from train.translate.moments.table import Moments

DIGEST = 32  # bytes of a sha256, at the end of files


def write_moments(file: Path, moments: Moments) -> None:
    """Write moments, of any shape, whole or not at all. Raises StoreError."""
    data = io.BytesIO()
    np.save(data, moments)
    with disk_errors(file):
        write_whole(file, data.getvalue() + _digest(file, data.getvalue()))


def read_moments(file: Path, shape: tuple[int, ...]) -> Moments | None:
    """What was kept; None if it is not there, is damaged or is of another unit."""
    with suppress(OSError, ValueError, EOFError):
        held = file.read_bytes()
        data = held[:-DIGEST]
        if held[-DIGEST:] != _digest(file, data):
            return None
        found = np.load(io.BytesIO(data), allow_pickle=False)
        return found if found.shape == shape and found.dtype == np.float32 else None
    return None


def _digest(file: Path, data: bytes) -> bytes:
    """The sha256 of a file's name and what it holds."""
    return hashlib.sha256(file.name.encode() + data).digest()


def map_moments(file: Path, shape: tuple[int, ...]) -> Moments | None:
    """The same without reading it."""
    with suppress(OSError, ValueError, EOFError):
        found = np.load(file, mmap_mode="r", allow_pickle=False)
        return found if found.shape == shape and found.dtype == np.float32 else None
    return None
