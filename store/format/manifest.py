"""The root document of a store: its manifest, the digest of every file that is no shard, and the seal over both.

The digests make a tree: the seal covers the root, the root names every metadata document, pair table and digest array,
and `unit/digest` holds the digest of every shard.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from store.format.layout import Unit, plan_units
from store.location.base import Location
from store.location.open import locate
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
        return _seal_of(self.document, self.manifest.seal)


def recorded_seal(document: bytes) -> str:
    """The seal that stands in the bytes of a root, whatever became of the rest; empty if none can be found."""
    found = re.search(rb'"seal": "([0-9a-f]{64})"', document)
    return found[1].decode() if found else ""


def fits_its_seal(document: bytes) -> bool:
    """Whether the bytes of a root are those that were sealed, by this or another version of the format."""
    seal = recorded_seal(document)
    return bool(seal) and _seal_of(document, seal) == seal


def _seal_of(document: bytes, seal: str) -> str:
    return hashlib.sha256(document.replace(seal.encode(), UNSEALED.encode())).hexdigest()


def root_document(manifest: Manifest, files: Mapping[str, str]) -> bytes:
    """The bytes of the root `zarr.json`."""
    attributes = {"manifest": plain(manifest), "files": dict(files)}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def read_root(address: Location | Path | str) -> Root:
    """The root document of a store, finished or not. Raises StoreError if it is not one of ours."""
    location = locate(address)
    try:
        document = location.read(ROOT)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{location} is no store: {_what_is_there(location)}") from error
    except OSError as error:
        if error.errno is None:  # of object storage: it says itself what to do
            raise StoreError(f"{location} cannot be read: {error}") from error
        raise StoreError(
            f"{ROOT} of {location} cannot be read ({error.strerror or error}); mend that, or bring it back from a copy"
        ) from error
    try:
        attributes = json.loads(document)["attributes"]
        tree, files = attributes["manifest"], dict[str, str](attributes["files"])
        number = tree["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{location} is no store: {_enclosing(location)}"
            if _enclosing(location)
            else f"{location} was not made by magstain, or its zarr.json is damaged: it holds no manifest; "
            "point to a store that `python -m prep build` made; a damaged one is mended by the `prep build` that made "
            "it, with --repair"
        ) from error
    if number != FORMAT:
        raise StoreError(
            f"{location} has store format {number}, this program reads format {FORMAT}; use the version of magstain "
            f"that made it; if its {ROOT} was altered, the `prep build` that made it mends it with --repair"
        )
    try:
        manifest = validate(Manifest, tree)
    except MagstainError as error:
        raise StoreError(
            f"{location} has a manifest that format {FORMAT} does not know ({error}): its zarr.json was altered, or "
            "another version of magstain made it; the `prep build` that made it mends it with --repair"
        ) from error
    return Root(manifest=manifest, files=files, document=document)


def read_sealed(address: Location | Path | str) -> Root:
    """The root document of a finished store. Raises StoreError if it is not finished, and says how to finish it."""
    location = locate(address)
    root = read_root(location)
    if not root.manifest.sealed:
        raise StoreError(
            f"{location} is not finished: its journal is {location.beside(JOURNAL).name}; "
            "run the `prep build` (or `make prepare`) that began it again, it goes on where it stopped"
        )
    return root


def _what_is_there(location: Location) -> str:
    """What stands where a store was expected, and what to do about it."""
    path = location.folder
    if path is None:
        return "no zarr.json is there; correct the address, or make one with `python -m prep build`"
    if path.is_dir():
        if path.name.endswith(JOURNAL):
            return "it is the journal of an unfinished one; run the `prep build` that began it again"
        return (
            _enclosing(location)
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


def _enclosing(location: Location) -> str:
    """Which store a folder is a part of, and what to do about it; empty if of none."""
    if location.folder is None:
        return ""
    groups = [folder for folder in location.folder.absolute().parents if (folder / ROOT).is_file()]
    return f"it lies inside one; name {groups[-1]}" if groups else ""


def all_units(manifest: Manifest) -> list[Unit]:
    """The units of every split, in the order of the manifest."""
    return [unit for split, pairs in manifest.counts.items() for unit in plan_units(split, pairs, manifest.unit)]


def journal_of(path: Path) -> Path:
    """The folder that stands beside an unfinished store on a local disk."""
    return path.with_name(path.name + JOURNAL)
