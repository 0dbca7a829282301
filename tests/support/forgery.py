"""Stores that were made to harm their reader: any names and numbers under digests and a seal that are right."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from store.files import digest_bytes, digest_file
from store.format.manifest import ROOT, UNSEALED
from store.format.tables import write_text
from store.reader import Store


def forge(
    store: Store,
    path: Path,
    *,
    columns: Mapping[str, list[str]] | None = None,
    files: Mapping[str, bytes] | None = None,
    change: Callable[[dict[str, Any]], object] = lambda _: None,
) -> Path:
    """A copy of a store at `path` with other text `columns`, other `files` and a changed manifest, sealed again."""
    shutil.copytree(store.path, path, copy_function=os.link)
    tree = json.loads((path / ROOT).read_bytes())
    for name, values in (columns or {}).items():
        shutil.rmtree(path / name)
        write_text(zarr.open_group(LocalStore(path), mode="r+"), name, values)
    for name, data in (files or {}).items():
        overwrite(path / name, data)
    known = tree["attributes"]["files"]
    changed = [name for name in known if name in (files or {}) or name.startswith(tuple(columns or {}))]
    known.update({name: digest_file(path / name) for name in changed})
    change(tree["attributes"]["manifest"])
    seal(path / ROOT, tree)
    return path


def overwrite(file: Path, data: bytes) -> None:
    """Write a file in the place of one that other stores share."""
    file.unlink()
    file.write_bytes(data)


def seal(root: Path, tree: dict[str, Any]) -> None:
    """Write the root of a store with a seal that is right."""
    manifest = tree["attributes"]["manifest"]
    manifest["seal"] = UNSEALED
    manifest["seal"] = digest_bytes(_document(tree))
    overwrite(root, _document(tree))


def _document(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree, indent=2, ensure_ascii=False).encode()
