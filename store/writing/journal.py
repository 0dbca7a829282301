"""The journal of an unfinished store: what was begun, and for every unit the digests of its shards.

A record is JSON with its own checksum, so that a damaged record counts as a missing one. Records of earlier versions
have none: an entry is believed if the shards confirm it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

from store.files import digest_bytes
from store.format.layout import Unit
from store.format.manifest import JOURNAL, ROOT
from store.location.base import Location

LOCK = "lock"  # where locks exist: held by the one process that builds
BEGUN = "begun"  # the digest of every file of the layout that is being filled
SKELETON = "skeleton"  # the layout before it is published
OLD_SEAL = "repair"  # in a repair: the seal of the store before it, empty if it is lost
ENTRY = ".json"  # the ending of a unit's entry: the digests of its shards, which are safely written
EXPECTED = ".expected"  # the ending of a note of a repair: the digests of a unit that the seal covers
DIGEST = re.compile(r"[0-9a-f]{64}")  # in earlier versions also the whole of BEGUN: the digest of its digests

Digests = Mapping[str, str]  # sha256 in hex by the path of an array or the name of a file


def digests_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """The digest of each file."""
    return {name: digest_bytes(data) for name, data in files.items()}


def encode_record(digests: Digests) -> bytes:
    """A record with its checksum."""
    return json.dumps({"digests": dict(digests), "sha256": _checksum(digests)}, indent=1).encode()


def decode_record(data: bytes) -> dict[str, str]:
    """The digests in a record; empty if it is damaged.

    >>> decode_record(encode_record({"a": "0f" * 32})) == {"a": "0f" * 32}
    True
    >>> decode_record(encode_record({"a": "0f" * 32}).replace(b"0f0f", b"0f0e"))
    {}
    """
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if isinstance(tree, dict) and isinstance(tree.get("digests"), dict):
        tree = tree["digests"] if _checksum(tree["digests"]) == tree.get("sha256") else {}
    fits = isinstance(tree, dict) and all(DIGEST.fullmatch(str(value)) for value in tree.values())
    return dict(tree) if fits else {}


class Journal:
    """The records beside a store. A missing and a damaged record are both empty."""

    def __init__(self, store: Location) -> None:
        self.place = store.beside(JOURNAL)

    def begun(self) -> dict[str, str]:
        """The digest of every file of the layout that was begun, its root among them."""
        begun = self._record(BEGUN)
        return begun if ROOT in begun else {}

    def begin(self, layout: Digests) -> bool:
        """Claim the location for a layout; of concurrent builds the first one wins where there are no locks.

        Returns whether the location is this build's.
        """
        mine = encode_record(layout)
        there = self.place.claim(BEGUN, mine)
        if there != mine and not _is_claim(there):  # damaged
            self.place.write(BEGUN, mine)
            return True
        return there in {mine, digest_bytes(json.dumps(dict(layout)).encode()).encode()}

    def keep_begun(self, layout: Digests) -> None:
        """Record the layout of a store that is resumed, unless that is already on record."""
        if self.begun() != layout:
            self.place.write(BEGUN, encode_record(layout))

    def used(self) -> bool:
        """Whether a build ever wrote here."""
        return any(name != LOCK for name in self.place.names())

    def entry(self, unit: Unit) -> dict[str, str]:
        """The digests of a committed unit by array path."""
        return self._record(unit.name + ENTRY)

    def expected(self, unit: Unit) -> dict[str, str]:
        """The digests that a rebuilt unit must have, in a repair."""
        return self._record(unit.name + EXPECTED)

    def commit(self, unit: Unit, digests: Digests) -> None:
        """Write the entry of a unit whose shards are safely written."""
        self.place.write(unit.name + ENTRY, encode_record(digests))

    def withdraw(self, unit: Unit) -> None:
        """Remove the entry of a unit, if any; in a repair its digests stay what a rebuilt unit must have."""
        if not self.place.exists(unit.name + ENTRY):
            return
        entry = self.entry(unit)
        if entry and self.repairs() and not self.expected(unit):
            self.place.write(unit.name + EXPECTED, encode_record(entry))
        self.place.remove(unit.name + ENTRY)

    def repairs(self) -> bool:
        """Whether this is a repair."""
        return self.place.exists(OLD_SEAL)

    def old_seal(self) -> str:
        """The seal of the store before its repair; empty if it is lost, or in a first build."""
        return self._record(OLD_SEAL).get("seal", "")

    def replace_with(self, records: Mapping[str, Digests]) -> None:
        """Make the journal hold these records and no others; what both say is never missing meanwhile."""
        for name, digests in records.items():
            self.place.write(name, encode_record(digests))
        self.clear(keep=records)

    def clear(self, keep: Collection[str] = ()) -> None:
        """Remove every record but those of these names; the lock stays."""
        for name in [name for name in self.place.names() if name not in {*keep, LOCK}]:
            self.place.remove(name)

    def _record(self, name: str) -> dict[str, str]:
        try:
            return decode_record(self.place.read(name))
        except OSError as error:
            if error.errno is None:  # object storage does not answer
                raise
            return {}


def _checksum(digests: Digests) -> str:
    return digest_bytes(json.dumps(dict(digests)).encode())


def _is_claim(data: bytes) -> bool:
    """Whether these bytes were written by a build that began a layout."""
    return ROOT in decode_record(data) or DIGEST.fullmatch(data.decode("latin-1")) is not None
