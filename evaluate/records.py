"""JSON records on disk: read as objects, checked against their class; NaN is `null` in them, infinity `"inf"`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import inf, isnan, nan
from pathlib import Path
from typing import Any, TypeVar

from store.files import disk_errors, write_whole
from store.schema import RunError, SettingsError
from store.settings import validate

T = TypeVar("T")


def read_record(file: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file; RunError with the remedy if there is none."""
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is not JSON ({error}); {remedy}") from error
    if not isinstance(tree, dict):
        raise RunError(f"{file} holds a {type(tree).__name__}, not an object; {remedy}")
    return tree


def check_record(kind: type[T], tree: Mapping[str, Any], file: Path, remedy: str) -> T:
    """An object as its class; RunError with the remedy if it is another."""
    try:
        return validate(kind, tree)
    except SettingsError as error:
        raise RunError(f"{file} is not what it should be ({error}); {remedy}") from error


def write_record(file: Path, tree: Mapping[str, Any]) -> None:
    """Write an object whole or not at all; makes its folder."""
    text = json.dumps(encode(tree), indent=1, ensure_ascii=False, allow_nan=False)
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, (text + "\n").encode())


def encode(tree: Any) -> Any:
    """Plain values for JSON, which knows finite numbers only."""
    if isinstance(tree, Mapping):
        return {str(key): encode(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return [encode(value) for value in tree]
    if isinstance(tree, float) and isnan(tree):
        return None
    return "inf" if tree == inf else tree


def decode(value: Any) -> float:
    """A number as it was before `encode`."""
    return nan if value is None else float(value)  # `float` knows "inf"
