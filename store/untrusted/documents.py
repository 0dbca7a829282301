"""JSON and TOML of any origin to plain values, in bounded time and memory.

Both parsers recurse with the depth of a document, and the one of TOML takes time with the square of the parts of a key.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

JSON_BYTES = 64 << 20  # `scores.json` has 2 kB for each picture
TOML_BYTES = 64 << 10  # every setting of training, with comments, takes 10 kB
DEPTH = 32  # of objects and lists in each other; our records have 8
DOTS = 16  # in a line of TOML
LARGEST = 2**63  # TOML has integers of 64 bits
SHOWN = 60  # signs of a document in an error


class DocumentError(ValueError):
    """A document that is damaged, or was made to harm its reader; the reader says which file, and what to do."""


class NotParsedError(DocumentError):
    """A document that is no JSON, or no TOML, at all."""


def read_document(file: Path, limit: int = JSON_BYTES) -> bytes:
    """The bytes of a JSON or TOML file. Raises OSError, or DocumentError if it is longer than `limit` bytes."""
    with file.open("rb") as handle:
        data = handle.read(limit + 1)
    _check_size(data, limit)
    return data


def parse_json(data: bytes | str) -> Any:
    """The values of a JSON document with finite numbers. Raises DocumentError."""
    _check_size(data, JSON_BYTES)
    try:
        text = data if isinstance(data, str) else data.decode()
        tree = json.loads(text, object_pairs_hook=_object, parse_constant=finite, parse_float=finite)
    except RecursionError:
        raise _too_deep() from None
    except DocumentError:
        raise
    except ValueError as error:
        raise NotParsedError(str(error)) from error
    _check_values(tree)
    return tree


def parse_object(data: bytes | str) -> dict[str, Any]:
    """The values of a JSON document that is one object. Raises DocumentError."""
    tree = parse_json(data)
    if not isinstance(tree, dict):
        raise DocumentError(f"it holds a {type(tree).__name__}, not an object")
    return tree


def parse_toml(data: bytes | str) -> dict[str, Any]:
    """The values of a TOML document with finite numbers. Raises DocumentError."""
    _check_size(data, TOML_BYTES)
    try:
        text = data if isinstance(data, str) else data.decode()
        _check_dots(text)
        tree = tomllib.loads(text, parse_float=finite)
    except RecursionError:
        raise _too_deep() from None
    except DocumentError:
        raise
    except ValueError as error:  # also a number of more than 4300 digits, and bytes that are not UTF-8
        raise NotParsedError(str(error)) from error
    _check_values(tree)
    return tree


def finite(text: str) -> float:
    """The number that a document has in these signs. Raises DocumentError for infinity and NaN."""
    number = float(text)
    if not math.isfinite(number):
        raise DocumentError(f"{shorten(text)} is not a finite number")
    return number


def shorten(text: str, longest: int = SHOWN) -> str:
    """A text that may have any length, for an error."""
    return text if len(text) <= longest else f"{text[:longest]}…"


def _check_size(data: bytes | str, limit: int) -> None:
    if len(data) > limit:
        raise DocumentError(f"it has more than {limit:,} bytes")


def _check_dots(text: str) -> None:
    """Raise DocumentError for a line of TOML, no comment, whose key may have too many parts."""
    for line in text.splitlines():
        if line.count(".") > DOTS and not line.lstrip().startswith("#"):
            raise DocumentError(f"a line has {line.count('.'):,} dots, more than {DOTS}: {shorten(line)}")


def _check_values(tree: object) -> None:
    """Raise DocumentError for values that are nested too deep, or integers of more than 64 bits."""
    level, depth = [tree], 0
    while level:
        if depth > DEPTH:
            raise _too_deep()
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, int) and not -LARGEST <= one < LARGEST:
                raise DocumentError(f"an integer has more than 64 bits: {shorten(hex(one))}")
        level, depth = inner, depth + 1


def _too_deep() -> DocumentError:
    return DocumentError(f"it is nested deeper than {DEPTH} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise DocumentError(f"its key {shorten(twice)!r} occurs twice")
    return tree
