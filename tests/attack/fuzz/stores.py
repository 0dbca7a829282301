"""Stores that were changed behind their checksums, digests and seals, which are made right again."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import google_crc32c
import zarr
from zarr.storage import LocalStore

from store.files import digest_bytes
from store.format.tables import SKIPPED, TEXT, write_text
from tests.attack.fuzz.mutate import hostile_names, mutate_bytes, mutate_tree, text_of
from tests.attack.recipes import Words
from tests.support.forgery import seal

CRC, UNIT = 4, 2  # bytes of a checksum; pairs in a shard


def forge_root(place: Path, chance: random.Random, outside: Path) -> Words:
    """The manifest, or the whole root of a store."""
    root = place / "store.zarr" / "zarr.json"
    tree = json.loads(root.read_bytes())
    if chance.random() < 0.7:
        tree["attributes"]["manifest"] = mutate_tree(tree["attributes"]["manifest"], chance, hostile_names(outside))
    else:
        tree = mutate_tree(tree, chance, hostile_names(outside))
    _seal(root, tree)
    return ()


def forge_array(place: Path, chance: random.Random, outside: Path) -> Words:
    """The metadata of an array: shape, chunks, codecs, type."""
    store = place / "store.zarr"
    name = chance.choice([name for name in _names(store) if name.endswith("zarr.json") and name != "zarr.json"])
    tree = mutate_tree(json.loads((store / name).read_bytes()), chance, hostile_names(outside))
    replace(store / name, text_of(tree).encode())
    _seal_files(store)
    return ()


def forge_shard(place: Path, chance: random.Random, outside: Path) -> Words:
    """A picture behind its checksum, or the index of a shard behind its own."""
    store = place / "store.zarr"
    name = chance.choice([name for name in _names(store) if re.search(r"(he|ihc)/c/.*", name) and "pair" not in name])
    data = (store / name).read_bytes()
    index = len(data) - CRC - 16 * UNIT
    if chance.random() < 0.25:
        forged = data[:index] + _summed(mutate_bytes(data[index:-CRC], chance, 16)[: 16 * UNIT])
    else:
        first = int.from_bytes(data[index + 8 : index + 16], "little")
        body = mutate_bytes(data[: first - CRC], chance, 32)
        rest = data[first:index]
        forged = _summed(body) + rest + _summed(_moved(data[index:-CRC], len(body) + CRC - first, len(body) + CRC))
    replace(store / name, forged)
    return ()


def forge_table(place: Path, chance: random.Random, outside: Path) -> Words:
    """A column of text of a pair table: ids, slides, sources."""
    store = place / "store.zarr"
    split, names = chance.choice(("train", "test")), hostile_names(outside)
    texts = [f"{split}/pair/{name}" for name in TEXT]
    column = chance.choice((*texts, *texts[:1] * 4, f"skipped/{chance.choice(SKIPPED)}"))
    count = {"train": 6, "test": 3}.get(column.partition("/")[0], 0) + chance.choice((0, 0, 0, 0, 1, -1))
    values = [chance.choice((*names, f"s3_{row}_0")) for row in range(max(0, count))]
    for file in [store / name for name in _names(store) if name.startswith(column + "/")]:
        replace(file, file.read_bytes())
    write_text(
        zarr.open_group(LocalStore(store), mode="r+"), column, [value.replace("\ud800", "?") for value in values]
    )
    _seal_files(store)
    return ()


def replace(file: Path, data: bytes) -> None:
    """Write a file anew, whatever else its old bytes are linked to."""
    file.unlink(missing_ok=True)
    file.write_bytes(data)


def _names(store: Path) -> list[str]:
    return sorted(file.relative_to(store).as_posix() for file in store.rglob("*") if file.is_file())


def _summed(body: bytes) -> bytes:
    return body + int(google_crc32c.value(body)).to_bytes(CRC, "little")


def _moved(index: bytes, by: int, first: int) -> bytes:
    """The index of a shard whose first chunk has another length."""
    numbers = [int.from_bytes(index[at : at + 8], "little") for at in range(0, len(index), 8)]
    numbers[1] = first
    for row in range(2, len(numbers), 2):
        if numbers[row] < 2**63:
            numbers[row] += by
    return b"".join(number.to_bytes(8, "little") for number in numbers)


def _seal_files(store: Path) -> None:
    """Make the digests in a root, and its seal, those of the files."""
    tree = json.loads((store / "zarr.json").read_bytes())
    known = tree["attributes"]["files"]
    for name in known:
        if (store / name).is_file():
            known[name] = digest_bytes((store / name).read_bytes())
    _seal(store / "zarr.json", tree)


def _seal(root: Path, tree: Any) -> None:
    """Write a root with a right seal where it has a place for one."""
    try:
        seal(root, tree)
        sealed = json.loads(root.read_text(encoding="utf-8"))
    except (TypeError, KeyError, IndexError, ValueError):
        sealed = tree
    replace(root, text_of(sealed, 2).encode("utf-8", "replace"))
