"""Stores that were made to harm their reader: any names and numbers under digests and a seal that are right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from store.files import digest_bytes, digest_file, files_of
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
    shutil.copytree(store.path, path)
    for name in files_of(path):
        (path / name).chmod(0o644)
    for name, values in (columns or {}).items():
        write_text(zarr.open_group(LocalStore(path), mode="r+"), name, values)
    for name, data in (files or {}).items():
        (path / name).write_bytes(data)
    tree = json.loads((path / ROOT).read_bytes())
    known, manifest = tree["attributes"]["files"], tree["attributes"]["manifest"]
    known.update({name: digest_file(path / name) for name in known if (path / name).exists()})
    change(manifest)
    seal(path / ROOT, tree)
    return path


def seal(root: Path, tree: dict[str, Any]) -> None:
    """Write the root of a store with a seal that is right."""
    manifest = tree["attributes"]["manifest"]
    manifest["seal"] = UNSEALED
    manifest["seal"] = digest_bytes(_document(tree))
    root.write_bytes(_document(tree))


def _document(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree, indent=2, ensure_ascii=False).encode()
