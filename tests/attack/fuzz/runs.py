"""Records, generators, checkpoints and logs of runs that were changed, under digests that are right."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

from store.files import DIGEST, digest_tree
from tests.attack.fuzz.mutate import hostile_names, mutate_bytes, mutate_tree, text_of
from tests.attack.fuzz.stores import replace
from tests.attack.recipes import Words

NO_TENSORS = (b"", b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def forge_record(place: Path, chance: random.Random, outside: Path) -> Words:
    """A record of a run, with a digest that is right, or without one."""
    file = chance.choice(sorted(place.glob("run/**/*.json")))
    tree = json.loads(file.read_text(encoding="utf-8"))
    tree.pop(DIGEST, None)
    tree = mutate_tree(tree, chance, hostile_names(outside))
    text = text_of(tree, 1)
    if chance.random() < 0.7 and isinstance(tree, dict):
        text = text_of(_signed(tree, text), 1)
    replace(file, text.encode("utf-8", "replace"))
    return ()


def forge_lines(place: Path, chance: random.Random, outside: Path) -> Words:
    """Lines of `metrics.jsonl`, or the settings of a run."""
    file = place / "run" / chance.choice(("metrics.jsonl", "settings.toml"))
    if file.suffix == ".toml" or chance.random() < 0.5:
        replace(file, mutate_bytes(file.read_bytes(), chance, 10**6))
    else:
        trees = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        lines = [text_of(mutate_tree(tree, chance, hostile_names(outside))) for tree in trees]
        replace(file, ("\n".join(lines) + "\n").encode("utf-8", "replace"))
    return ()


def forge_generator(place: Path, chance: random.Random, outside: Path) -> Words:
    """`generator.safetensors`: its length, its index, its header with a digest that is right, or its bytes."""
    file = place / "run" / "generator.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    index, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    which = chance.random()
    if which < 0.2:
        replace(file, mutate_bytes(data, chance))
        return ()
    if which < 0.5:
        index = mutate_tree(index, chance, hostile_names(outside))
    else:
        tree = json.loads(index["__metadata__"]["magstain"])
        tree.pop(DIGEST, None)
        tree = mutate_tree(tree, chance, hostile_names(outside))
        index["__metadata__"]["magstain"] = text_of(_signed(tree, text_of(tree)) if isinstance(tree, dict) else tree)
    text = text_of(index).encode("utf-8", "replace")
    replace(file, len(text).to_bytes(8, "little") + text + body)
    return ()


def forge_checkpoint(place: Path, chance: random.Random, outside: Path) -> Words:
    """The newest checkpoint under the name that its bytes want; the older one goes."""
    old, file = sorted(place.glob("run/checkpoints/*.pt"))
    data = mutate_archive(file.read_bytes(), chance, outside)
    old.unlink()
    file.unlink()
    digest = hashlib.sha256(data).hexdigest()[:16]
    (file.parent / f"{file.name.partition('-')[0]}-{digest}.pt").write_bytes(data)
    return ()


def forge_foreign(place: Path, chance: random.Random, outside: Path) -> Words:
    """A file of tensors from anywhere, to be imported."""
    file = sorted(place.glob("run/checkpoints/*.pt"))[-1]
    (place / "net_G.pth").write_bytes(mutate_archive(file.read_bytes(), chance, outside))
    return ()


def mutate_archive(data: bytes, chance: random.Random, outside: Path) -> bytes:
    """The zip of a torch file: a pickle that calls, other pickled bytes, other members, other bytes, no zip at all."""
    if chance.random() < 0.3:
        return mutate_bytes(data, chance)
    if chance.random() < 0.1:
        return chance.choice(
            (b"", b"<html>", b"version https://git-lfs.github.com/spec/v1\n", pickle.dumps(_Call(outside)))
        )
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        spoiled = chance.choice(old.namelist())
        for name in old.namelist():
            member = old.read(name)
            if name.endswith("data.pkl") and chance.random() < 0.5:
                member = pickle.dumps(_Call(outside)) if chance.random() < 0.3 else mutate_bytes(member, chance, 300)
            elif name == spoiled:
                member = mutate_bytes(member, chance)
            new.writestr(name, member)
    return made.getvalue()


class _Call:
    """What a reader that unpickles anything would do: make a file."""

    def __init__(self, outside: Path) -> None:
        self.outside = outside

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.outside / "unpickled",)


def _signed(tree: dict[str, Any], text: str) -> dict[str, Any]:
    """A record with the digest of what a reader makes of its text, if it makes anything of it."""
    try:
        return tree | {DIGEST: digest_tree(json.loads(text))}
    except (ValueError, RecursionError, TypeError):
        return tree
