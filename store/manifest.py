"""The root document of a store: its manifest, the digest of every file that is no shard, and the seal over both.

The digests make a tree: the seal covers the root, the root names every metadata document, pair table and digest array,
and `unit/digest` holds the digest of every shard.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from store.arrays import Unit, plan_units
from store.schema import FORMAT, MagstainError, Manifest, StoreError
from store.settings import plain, validate

JOURNAL = ".journal"
ROOT = "zarr.json"  # the root document's name
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
    file = path / ROOT
    if not file.is_file():
        raise StoreError(f"{path} is no store: {_what_is_there(path)}")
    try:
        document = file.read_bytes()
        attributes = json.loads(document)["attributes"]
        tree, files = attributes["manifest"], dict[str, str](attributes["files"])
        number = tree["format"]
    except OSError as error:
        raise StoreError(
            f"{file} cannot be read ({error.strerror}); mend that, or bring it back from a copy"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is no store: {_enclosing(path)}"
            if _enclosing(path)
            else f"{path} was not made by magstain, or its zarr.json is damaged: it holds no manifest; "
            "point to a store that `python -m prep build` made"
        ) from error
    if number != FORMAT:
        raise StoreError(
            f"{path} has store format {number}, this program reads format {FORMAT}; "
            "use the version of magstain that made it"
        )
    try:
        manifest = validate(Manifest, tree)
    except MagstainError as error:
        raise StoreError(
            f"{path} has a manifest that format {FORMAT} does not know ({error}): its zarr.json was altered, or "
            "another version of magstain made it; bring that file back from a copy, or build the store again"
        ) from error
    return Root(manifest=manifest, files=files, document=document)


def read_sealed(path: Path) -> Root:
    """The root document of a finished store. Raises StoreError if it is not finished, and says how to finish it."""
    root = read_root(path)
    if not root.manifest.sealed:
        raise StoreError(
            f"{path} is not finished: its journal is {journal_of(path).name}; "
            "run the `prep build` (or `make prepare`) that began it again, it goes on where it stopped"
        )
    return root


def _what_is_there(path: Path) -> str:
    """What stands where a store was expected, and what to do about it."""
    if path.is_dir():
        if path.name.endswith(JOURNAL):
            return "it is the journal of an unfinished one; run the `prep build` that began it again"
        return (
            _enclosing(path)
            or "a folder without zarr.json; correct the path, or have `python -m prep build` make one at a free place"
        )
    if path.exists():
        return "it is a file; name the folder that `python -m prep build` made"
    if journal_of(path).is_dir():
        return f"only its journal {journal_of(path).name} is there; run the `prep build` that began it again"
    beside = sorted(root.parent.name for root in path.parent.glob(f"*/{ROOT}"))
    near = difflib.get_close_matches(path.name, beside, n=3, cutoff=0.0)
    hint = f"; in {path.parent} there are: {', '.join(near)}" if near else ""
    return f"nothing is there{hint}; correct the path, or make one with `python -m prep build`"


def _enclosing(path: Path) -> str:
    """Which store a folder is a part of, and what to do about it; empty if of none."""
    groups = [folder for folder in path.absolute().parents if (folder / ROOT).is_file()]
    return f"it lies inside one; name {groups[-1]}" if groups else ""


def all_units(manifest: Manifest) -> list[Unit]:
    """The units of every split, in the order of the manifest."""
    return [unit for split, pairs in manifest.counts.items() for unit in plan_units(split, pairs, manifest.unit)]


def journal_of(path: Path) -> Path:
    """The folder that stands beside an unfinished store."""
    return path.with_name(path.name + JOURNAL)
