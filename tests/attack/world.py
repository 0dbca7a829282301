"""What is attacked: small tiles, stores, runs, predictions and scores, each made once and copied for every case.

Records name other places relative to the folder in which commands run, so that a copy is as good as the original.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import RLock

from tests.attack.machine.processes import Done, Running, Zygote
from tests.attack.recipes import FIRST, RECIPES, Words, sets

ENVIRONMENT = {
    "MAGSTAIN_WEIGHTS": "no-weights",
    "MAGSTAIN_FEATURES": "features",
    "COLUMNS": "100",
    "no_proxy": "127.0.0.1",
}


@dataclass
class World:
    """The folder of everything that was made, the process that makes it, the address of the mirror, and a seed."""

    zygote: Zygote
    folder: Path
    mirror: str
    seed: int = 0
    lock: RLock = field(default_factory=RLock)
    results: dict[tuple[object, ...], Undisturbed] = field(default_factory=dict)

    def run(self, place: Path, words: Words, **limits: float) -> Done:
        """Run a command in a folder."""
        timeout, memory = limits.get("timeout", 120.0), int(limits.get("memory", 0))
        return self.zygote.run(place, *words, environment=ENVIRONMENT, timeout=timeout, memory=memory)

    def start(self, place: Path, words: Words, dies_at: int = 0) -> Running:
        """Start a command in a folder."""
        return self.zygote.start(place, *words, environment=ENVIRONMENT, dies_at=dies_at)

    def lay(self, place: Path, *trees: str) -> Path:
        """Copy trees into a folder."""
        for name in trees:
            shutil.copytree(self.tree(name), place, dirs_exist_ok=True)
        return place

    def tree(self, name: str) -> Path:
        """The folder of a tree, which is made at its first use; `run:asp` is recipe `run` for a method."""
        with self.lock:
            folder = self.folder / name.replace(":", "-")
            if not folder.exists():
                making = folder.with_name(folder.name + ".making")
                making.mkdir()
                recipe, _, method = name.partition(":")
                kept = RECIPES[recipe](self, making, method or FIRST)
                for other in [path for path in making.iterdir() if path.name not in kept]:
                    shutil.rmtree(other) if other.is_dir() else other.unlink()
                making.rename(folder)
            return folder

    def make(self, place: Path, words: Words) -> Done:
        """Run a command that must work."""
        done = self.run(place, words)
        if done.code:
            raise RuntimeError(f"{' '.join(words)} ended with {done.code}: {done.err[-1000:]}")
        return done

    @cached_property
    def narrow(self) -> dict[str, list[str]]:
        """The settings of a small network, by method."""
        settings: dict[str, list[str]] = json.loads(self.make(self.folder, ("methods",)).out)
        return settings

    def fit(self, method: str = FIRST) -> Words:
        """The words that train a run of six steps."""
        short = ("optimiser.constant_epochs=1", "optimiser.decay_epochs=0", "checkpoint_every=2", "sample_every=3")
        settings = (f"method={method}", *self.narrow[method], *short)
        return ("train", "fit", "--store", "store.zarr", "--run", "run", *sets(*settings))

    @property
    def fetch(self) -> Words:
        """The words that download the small weight file."""
        return ("weights", "small.pth", "--folder", "weights", "--from", self.mirror)

    def undisturbed(self, trees: Words, *commands: Words) -> Undisturbed:
        """What commands leave where nothing goes wrong."""
        with self.lock:
            if (trees, commands) not in self.results:
                place = self.folder / "undisturbed"
                place.mkdir()
                self.lay(place, *trees)
                done = [self.make(place, words) for words in commands]
                self.results[trees, commands] = Undisturbed(left=contents(place), done=tuple(done))
                shutil.rmtree(place)
            return self.results[trees, commands]


@dataclass(frozen=True)
class Undisturbed:
    """What was left by commands, and how each ended."""

    left: dict[str, bytes]
    done: tuple[Done, ...]


def contents(place: Path) -> dict[str, bytes]:
    """The files below a folder by name, without what may differ between two runs: times, logs, empty locks."""
    found: dict[str, bytes] = {}
    for file in sorted(place.rglob("*")):
        name = file.relative_to(place).as_posix()
        if file.is_dir() or re.search(r"(^|/)lock$|/tensorboard/", name):
            continue
        found[plain_name(name)] = plain_bytes(name, file.read_bytes())
    return found


def plain_name(name: str) -> str:
    """The name of a file without the digest of a checkpoint, which has seconds in it."""
    return re.sub(r"(\d{8})-[0-9a-f]{16}\.", r"\1.", name)


def plain_bytes(name: str, data: bytes) -> bytes:
    """The bytes of a file without the time that something took."""
    if name.endswith(".pt"):
        return b""
    if name.endswith("MODEL_CARD.md"):
        return re.sub(rb"[^\n]*\b(seconds|minutes|hours|s)\b[^\n]*", b"", data)
    return re.sub(rb'"seconds[a-z_]*": [0-9.e-]+', b"", data)
