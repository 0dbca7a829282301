"""The root document of a store: its manifest, the digest of every file that is no shard, and the seal over both.

The digests make a tree: the seal covers the root, the root names every metadata document, pair table and digest array,
and `unit/digest` holds the digest of every shard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from store.arrays import Unit, plan_units
from store.schema import FORMAT, Manifest, StoreError
from store.settings import plain, validate

UNSEALED = "0" * 64  # stands for the seal while the seal is computed


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """What the root `zarr.json` says, and its bytes."""

    manifest: Manifest
    files: Mapping[str, str]
    document: bytes

    def seal(self) -> str:
        """The seal that these bytes deserve; it equals `manifest.seal` in a store that nobody touched."""
        return hashlib.sha256(self.document.replace(self.manifest.seal.encode(), UNSEALED.encode())).hexdigest()


def root_document(manifest: Manifest, files: Mapping[str, str]) -> bytes:
    """The bytes of the root `zarr.json`."""
    attributes = {"manifest": plain(manifest), "files": dict(files)}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def read_root(path: Path) -> Root:
    """The root document of the store at `path`, finished or not. Raises StoreError if it is not one of ours."""
    file = path / "zarr.json"
    if not file.is_file():
        found = (
            "nothing is there"
            if not path.exists()
            else "a folder without zarr.json"
            if path.is_dir()
            else "it is a file"
        )
        raise StoreError(f"{path} is no store: {found}; `python -m prep build` makes one, or correct the path")
    document = file.read_bytes()
    try:
        attributes = json.loads(document)["attributes"]
        tree, files = attributes["manifest"], attributes["files"]
        number = tree["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} was not made by magstain, or its zarr.json is damaged: it holds no manifest; "
            "point to a store that `python -m prep build` made"
        ) from error
    if number != FORMAT:
        raise StoreError(
            f"{path} has store format {number}, this program reads format {FORMAT}; "
            "use the version of magstain that made it"
        )
    return Root(manifest=validate(Manifest, tree), files=files, document=document)


def all_units(manifest: Manifest) -> list[Unit]:
    """The units of every split, in the order of the manifest."""
    return [unit for split, pairs in manifest.counts.items() for unit in plan_units(split, pairs, manifest.unit)]


def journal_of(path: Path) -> Path:
    """The folder that stands beside an unfinished store."""
    return path.with_name(path.name + ".journal")
