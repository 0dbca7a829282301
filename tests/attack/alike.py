"""Whether two files say the same: byte for byte, except where the last bit depends on what else was computed."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

ROUNDING = 1e-4  # of a number that comes from features: those of a picture depend in the last bit on its batch
DIGESTS = ("sha256",)  # of a record, by which readers compare it


def unlike(whole: Mapping[str, bytes], left: Mapping[str, bytes]) -> list[str]:
    """The names of files that only one of two folders has, or that differ."""
    from_features = any(name.startswith("features/") for name in whole)
    return sorted(
        name
        for name in whole.keys() | left.keys()
        if not (name in whole and name in left and alike(name, whole[name], left[name], from_features=from_features))
    )


def alike(name: str, one: bytes, two: bytes, *, from_features: bool = False) -> bool:
    """Whether two files of that name say the same."""
    if one == two:
        return True
    if not from_features or not name.endswith((".npz", "scores.json")):
        return name.endswith(".json") and one.strip() == two.strip()
    if name.endswith(".npz"):
        first, second = ([*np.load(io.BytesIO(data)).values()] for data in (one, two))
        return len(first) == len(second) and all(map(_near, first, second))
    return _same(json.loads(one), json.loads(two))


def _near(one: Any, two: Any) -> bool:
    return np.shape(one) == np.shape(two) and np.allclose(one, two, rtol=ROUNDING, atol=ROUNDING)


def _same(one: object, two: object) -> bool:
    """Whether two JSON values differ in rounding only."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one if key not in DIGESTS)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, float) and isinstance(two, float):
        return _near(one, two)
    return one == two
