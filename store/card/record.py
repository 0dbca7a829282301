"""The record of what was measured, in a store: outside its seal, with the seal and its own sha256 in it.

It lies in the folder of an array, where Zarr looks for no groups. Stores of earlier versions have none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from store.card.measured import Measured
from store.files import DIGEST, digest_tree, to_json
from store.location.base import Location
from store.schema import MagstainError, StoreError
from store.settings import validate
from store.untrusted.documents import DocumentError, parse_object

CARD = "skipped/id/card.json"


def encode_card(measured: Measured, seal: str) -> bytes:
    """The bytes of the record of a store with this seal."""
    tree = {"measured": to_json(asdict(measured)), "seal": seal}
    return json.dumps(tree | {DIGEST: digest_tree(tree)}, ensure_ascii=False).encode()


def is_whole(data: bytes, seal: str) -> bool:
    """Whether a record is as it was written, for a store with this seal."""
    return not isinstance(_open(data, seal), str)


def read_measured(location: Location, seal: str) -> Measured | None:
    """What was measured when the store with this seal was built; None if it has no record.

    Raises StoreError if the record is damaged, or if another version wrote it.
    """
    try:
        data = location.read(CARD)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"{CARD} of {location} cannot be read: {error}") from error
    tree = _open(data, seal)
    if isinstance(tree, str):
        raise StoreError(f"{CARD} of {location} is damaged ({tree}); `prep build --repair` writes it anew")
    try:
        return validate(Measured, tree)
    except MagstainError as error:
        raise StoreError(f"{CARD} of {location} was written by another version of magstain ({error})") from error


def _open(data: bytes, seal: str) -> Mapping[str, Any] | str:
    """What was measured, as plain values, or in words why the record cannot be used."""
    try:
        tree = parse_object(data)
    except DocumentError as error:
        return str(error)
    held = {key: value for key, value in tree.items() if key != DIGEST}
    if tree.get(DIGEST) != digest_tree(held):
        return f"it does not have the {DIGEST} in it"
    if held.get("seal") != seal:
        return "it is of a store with another seal"
    measured = held.get("measured")
    return measured if isinstance(measured, dict) else "it holds no measurements"
