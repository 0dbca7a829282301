"""JSON records changed by hand, as an earlier version or another program would leave them: without a digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.files import DIGEST


def unsigned(file: Path) -> dict[str, Any]:
    """What a record holds, without its digest."""
    tree: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {key: value for key, value in tree.items() if key != DIGEST}


def rewrite(file: Path, change: Mapping[str, Any]) -> None:
    """Write a record again with other values and without a digest."""
    file.write_text(json.dumps({**unsigned(file), **change}), encoding="utf-8")
