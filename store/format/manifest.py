"""The root document of a store: its manifest, the digest of every file that is not a shard, and the seal over both.

The digests form a tree: the seal covers the root, the root has the digest of every metadata document, pair table and
table of digests, and `unit/digest` has the digest of every shard.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from store.format.bounds import check_bounds
from store.format.layout import Unit, plan_units
from store.location.base import BESIDE, Location
from store.location.open import locate
from store.schema import FORMAT, MagstainError, Manifest, StoreError, check_name
from store.settings import plain, validate
from store.untrusted.documents import parse_object, shorten

JOURNAL = BESIDE
ROOT = "zarr.json"  # the name of the root document
COPY = "skipped/id/root.copy"  # a copy of the sealed root; in the folder of an array, where Zarr looks for no groups
LATER_OF_UPSCALER = {"kernels", "networks"}  # facts of the upscaler that are left out where they are empty
LATER: dict[str, object] = {
    "leakage": {},
    "overlaps": {},
    "paired": True,
    "tiles": {},
}  # facts that are left out where they are as before
UNSEALED = "0" * 64  # the place of the seal while it is computed
REPAIR = f"to repair a damaged {ROOT}, run the `prep build` that made the store with --repair"


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The root `zarr.json`: its manifest, the digests of files that are not shards, and its bytes."""

    manifest: Manifest
    files: Mapping[str, str]
    document: bytes

    def computed_seal(self) -> str:
        """The seal of these bytes; it equals `manifest.seal` in a sealed root that is intact."""
        return _seal_of(self.document, self.manifest.seal)


def recorded_seal(document: bytes) -> str:
    """The seal in the bytes of a root, which may be damaged elsewhere; empty if none is found."""
    found = re.search(rb'"seal": "([0-9a-f]{64})"', document)
    return found[1].decode() if found else ""


def matches_its_seal(document: bytes) -> bool:
    """Whether the bytes of a root are those that were sealed, in this format or another one."""
    seal = recorded_seal(document)
    return bool(seal) and _seal_of(document, seal) == seal


def root_bytes(location: Location, name: str = ROOT) -> bytes:
    """The bytes of the root, or of its copy; empty if it is missing or unreadable.

    Raises StoreError if it cannot be reached.
    """
    try:
        return location.read(name)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return b""
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise StoreError(f"{name} of {location} cannot be read: {error}") from error


def is_sealed(location: Location) -> bool:
    """Whether the root is one that was sealed, byte for byte."""
    return matches_its_seal(root_bytes(location))


def _seal_of(document: bytes, seal: str) -> str:
    return hashlib.sha256(document.replace(seal.encode(), UNSEALED.encode())).hexdigest()


def root_document(manifest: Manifest, files: Mapping[str, str]) -> bytes:
    """The bytes of the root `zarr.json`; later facts are left out where empty, as in stores older than they."""
    facts = {name: fact for name, fact in plain(manifest).items() if name not in LATER or fact != LATER[name]}
    facts["upscaler"] = {k: fact for k, fact in facts["upscaler"].items() if k not in LATER_OF_UPSCALER or fact}
    attributes = {"manifest": facts, "files": dict(files)}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def seal_root(manifest: Manifest, files: Mapping[str, str]) -> Root:
    """The root of the finished store, with its seal; `files` are the digests of its documents."""
    sealed, files = replace(manifest, sealed=True, seal=UNSEALED), dict(sorted(files.items()))
    seal = _seal_of(root_document(sealed, files), UNSEALED)
    manifest = replace(sealed, seal=seal)
    return Root(manifest=manifest, files=files, document=root_document(manifest, files))


def read_root(address: Location | Path | str, name: str = ROOT) -> Root:
    """The root document of a store, finished or not, or its copy.

    Raises StoreError if there is none or it cannot be read.
    """
    location = locate(address)
    try:
        document = location.read(name)
    except (FileNotFoundError, NotADirectoryError) as error:
        if location.exists(COPY):
            raise StoreError(f"{location} has lost its {ROOT}; {REPAIR}") from error
        raise StoreError(f"{location} is no store: {_why_no_store(location)}") from error
    except OSError as error:
        if error.errno is None:  # of object storage: the message already says what to do
            raise StoreError(f"{location} cannot be read: {error}") from error
        raise StoreError(
            f"{ROOT} of {location} cannot be read ({error.strerror or error}); check the disk, or restore the file "
            "from a copy"
        ) from error
    try:
        attributes = parse_object(document)["attributes"]
        tree, files = attributes["manifest"], dict[str, str](attributes["files"])
        number = tree["format"]
    except (ValueError, KeyError, TypeError) as error:
        if enclosing := _enclosing(location):
            raise StoreError(f"{location} is no store: {enclosing}") from error
        raise StoreError(
            f"{location} was not made by magstain, or its {ROOT} is damaged: it holds no manifest; "
            f"give a store that `python -m prep build` made; {REPAIR}"
        ) from error
    if number != FORMAT:
        raise StoreError(
            f"{location} has store format {shorten(repr(number))}, this program reads format {FORMAT}; use the version "
            f"of magstain that made it; {REPAIR}"
        )
    try:
        manifest = validate(Manifest, tree)
        check_bounds(manifest)
        for file in files:
            check_name(file, "file")
    except MagstainError as error:
        raise StoreError(
            f"{location} has a manifest that does not fit format {FORMAT} ({error}): it is damaged, or "
            f"another version of magstain made it; {REPAIR}"
        ) from error
    return Root(manifest=manifest, files=files, document=document)


def read_sealed(address: Location | Path | str) -> Root:
    """The root document of a finished store. Raises StoreError if it is not finished, and says how to finish it."""
    location = locate(address)
    root = read_root(location)
    if not root.manifest.sealed:
        raise StoreError(
            f"{location} is not finished: its journal is {location.beside(JOURNAL).name}; "
            "run the `prep build` (or `make prepare`) that started it again: it resumes"
        )
    return root


def _why_no_store(location: Location) -> str:
    """What exists where a store was expected, and what to do."""
    path = location.folder
    if path is None:
        return f"it has no {ROOT}; correct the address, or build a store with `python -m prep build`"
    if path.is_dir():
        if path.name.endswith(JOURNAL):
            return "it is the journal of an unfinished one; run the `prep build` that started it again"
        return (
            _enclosing(location)
            or f"a folder without {ROOT}; correct the path, or build a store at a new path with `python -m prep build`"
        )
    if path.exists():
        return "it is a file; give the folder that `python -m prep build` made"
    if journal_of(path).is_dir():
        return f"only its journal {journal_of(path).name} exists; run the `prep build` that started it again"
    beside = sorted(root.parent.name for root in path.parent.glob(f"*/{ROOT}"))
    near = difflib.get_close_matches(path.name, beside, n=3, cutoff=0.0)
    hint = f"; stores in {path.parent}: {', '.join(near)}" if near else ""
    return f"it does not exist{hint}; correct the path, or build a store with `python -m prep build`"


def _enclosing(location: Location) -> str:
    """The store that a folder is a part of, and what to do; empty if there is none."""
    if location.folder is None:
        return ""
    groups = [folder for folder in location.folder.absolute().parents if (folder / ROOT).is_file()]
    return f"it is a part of one; give {groups[-1]}" if groups else ""


def all_units(manifest: Manifest) -> list[Unit]:
    """The units of every split, in the order of the manifest."""
    return [unit for split, pairs in manifest.counts.items() for unit in plan_units(split, pairs, manifest.unit)]


def journal_of(path: Path) -> Path:
    """The journal of an unfinished store on a local disk: a folder beside it."""
    return path.with_name(path.name + JOURNAL)
