"""What was computed before, on disk, found again by what it was made from. Any file of the folder may be removed.

A file begins with the sha256 of the rest: what is damaged is computed again. A folder that cannot be written is no
error, only a note: nothing is found again then.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from store.cli import say, wrapped
from store.disk.home import cache_folder
from store.files import digest_bytes, disk_errors, write_whole
from store.schema import StoreError

FOLDER_VARIABLE = "MAGSTAIN_FEATURES"
HEAD = 65  # bytes: the sha256 in hex and a line feed
EARLIER = b"PK"  # the start of a file of an earlier version: no digest before the archive, which has checksums
_SAID = set[str]()  # why nothing can be kept
Arrays = tuple[NDArray[np.floating], ...]
Name = TypeVar("Name")


def features_folder() -> Path:
    """The cache folder: the one that MAGSTAIN_FEATURES names, else `magstain/features` in the user's cache."""
    return cache_folder(FOLDER_VARIABLE, "features")


def features_key(*parts: str) -> str:
    """The name of features made from these: the kind of features, the sha256 of weights, the sha256 of pictures."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def cached(
    folder: Path, keys: Mapping[Name, str], rows: int, compute: Callable[[list[Name]], Mapping[Name, Arrays]]
) -> dict[Name, Arrays]:
    """The arrays of each name, all of `rows` rows: those whose key is in the folder, and the others from `compute`.

    `compute` is called once with all names that are missing, and only if there are any; what it returns is saved.
    """
    saved = {name: load_features(folder, key, rows) for name, key in keys.items()}
    found = {name: arrays for name, arrays in saved.items() if arrays is not None}
    if missing := [name for name in keys if name not in found]:
        for name, arrays in compute(missing).items():
            save_features(folder, keys[name], arrays)
            found[name] = arrays
    return found


def load_features(folder: Path, key: str, rows: int) -> Arrays | None:
    """The arrays of a key, all of `rows` rows; None if they are missing or damaged."""
    data = load_bytes(folder / f"{key}.npz", EARLIER)
    if data is None:
        return None
    try:
        with np.load(io.BytesIO(data)) as held:
            arrays = tuple(held[f"arr_{place}"] for place in range(len(held.files)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # of an earlier version
        return None
    return arrays if all(len(array) == rows for array in arrays) else None


def save_features(folder: Path, key: str, arrays: Sequence[NDArray[np.floating]]) -> None:
    """Save the arrays of a key, completely or not at all."""
    data = io.BytesIO()
    np.savez(data, *arrays)
    save_bytes(folder / f"{key}.npz", data.getvalue())


def load_bytes(file: Path, earlier: bytes | None = None) -> bytes | None:
    """What was saved in a file; None if it is missing or damaged. What begins with `earlier` has no digest."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    if earlier is not None and data.startswith(earlier):
        return data
    return data[HEAD:] if data[:HEAD] == _head(data[HEAD:]) else None


def save_bytes(file: Path, data: bytes) -> None:
    """Save in a file, completely or not at all; a note if that fails."""
    try:
        with disk_errors(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, _head(data) + data)
    except StoreError as error:
        if (reason := str(error)) not in _SAID:
            _SAID.add(reason)
            say(wrapped(f"note: what was computed is not kept for the next time: {reason}, with ${FOLDER_VARIABLE}"))


def _head(data: bytes) -> bytes:
    return f"{digest_bytes(data)}\n".encode()
