"""What is attacked: small tiles, stores, runs, predictions and scores, each made once and copied for every case.

Records name other places relative to the folder in which commands run, so that a copy is as good as the original.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from store.files import files_of
from store.images import write_png
from tests.attack.processes import Done, Zygote
from tests.support.damage import alter
from tests.support.stores import draw_tile

Words = tuple[str, ...]
SIDE = 192  # px; views of 96 px are the least for a PatchGAN of five layers
TRAIN, TEST = [f"s{slide}_{row}_0" for slide in (1, 2) for row in range(3)], [f"s3_{row}_0" for row in range(3)]
BLANKS = ("both", "white", "black", "chequered", "one pixel")  # pairs without tissue, in place of one or two of train
SLEEPY = {"MAGSTAIN_WEIGHTS": "no-weights", "MAGSTAIN_FEATURES": "features", "COLUMNS": "100"}


def sets(*settings: str) -> Words:
    """Settings as words of a command line."""
    return tuple(word for setting in settings for word in ("--set", setting))


BUILD: Words = (
    *("prep", "build", "--data", "tiles", "--store", "store.zarr"),
    *sets("view_side=96", "upscaler=lanczos", "unit=2", "margin=4", "name=small", "stain=test"),
)
REPAIR: Words = (*BUILD, "--repair")
DASK: Words = (*BUILD, "--workers", "2")
SCORE: Words = ("evaluate", "score", "--run", "run")
TABLE: Words = ("evaluate", "table", "--run", "run", "--out", "out")
REPORT: Words = ("evaluate", "report", "--run", "run")
PREDICT: Words = ("train", "predict", "--run", "run")
FIRST, GATED = "pix2pix", "attention_gan"  # the method of most runs, and the one with attention maps


@dataclass
class World:
    """The folder of everything that was made, the process that makes it, and the seed of what is drawn once."""

    zygote: Zygote
    folder: Path
    seed: int = 0
    lock: RLock = field(default_factory=RLock)
    results: dict[tuple[object, ...], Undisturbed] = field(default_factory=dict)

    def run(self, place: Path, words: Words, **limits: float) -> Done:
        """Run a command in a folder."""
        timeout, memory = limits.get("timeout", 120.0), int(limits.get("memory", 0))
        return self.zygote.run(place, *words, environment=SLEEPY, timeout=timeout, memory=memory)

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


def _tiles(world: World, place: Path, method: str) -> Words:
    for part, names in (("train", TRAIN), ("val", TEST)):
        for key, stain in enumerate("AB"):
            for row, name in enumerate(names):
                write_png(place / "tiles" / f"{part}{stain}" / f"{name}.png", draw_tile(SIDE, len(names), key, row))
    return ("tiles",)


def _store(world: World, place: Path, method: str) -> Words:
    world.make(world.lay(place, "tiles"), BUILD)
    return ("store.zarr",)


def _blank(world: World, place: Path, kind: str) -> Words:
    """A store in which the first pair of train is not tissue; `both` has a white and a black one."""
    for row, one in enumerate(("white", "black") if kind == "both" else (kind,)):
        for stain in "AB":
            write_png(world.lay(place, "tiles") / "tiles" / f"train{stain}" / f"{TRAIN[row]}.png", blank_picture(one))
    world.make(place, BUILD)
    return ("store.zarr",)


def blank_picture(kind: str) -> NDArray[np.uint8]:
    """A picture without tissue, u8 [SIDE,SIDE,3]."""
    picture = np.full((SIDE, SIDE, 3), 0 if kind == "black" else 255, np.uint8)
    if kind == "chequered":
        picture[(np.indices((SIDE, SIDE)) // 8).sum(0) % 2 == 0] = 0
    elif kind == "one pixel":
        picture[SIDE // 2, SIDE // 2] = 254
    return picture


def _compact(world: World, place: Path, method: str) -> Words:
    world.make(world.lay(place, "tiles"), (*BUILD, *sets("codec=compact")))
    return ("store.zarr",)


def _damaged_store(world: World, place: Path, which: str) -> Words:
    """A sealed store with damage in three of its files; without its root if `which` says so."""
    store, chance = world.lay(place, "store") / "store.zarr", random.Random(which)
    for name in chance.sample([name for name in files_of(store) if name != "zarr.json"], 3):
        chance.choice((alter, Path.unlink))(store / name)
    if which == "rootless":
        (store / "zarr.json").unlink()
    return ("store.zarr",)


def _half_store(world: World, place: Path, method: str) -> Words:
    """A build that died after about half of its changes."""
    changes = world.undisturbed(("tiles",), BUILD).done[0].changes
    world.zygote.start(world.lay(place, "tiles"), *BUILD, environment=SLEEPY, dies_at=changes * 6 // 10).wait()
    assert any(place.glob("store.zarr.journal/*"))
    return ("store.zarr", "store.zarr.journal")


def _run(world: World, place: Path, method: str) -> Words:
    world.make(world.lay(place, "store"), world.fit(method))
    return ("run",)


def _half_run(world: World, place: Path, method: str) -> Words:
    """A run that died after its last checkpoint, before its generator."""
    words = world.fit(method)
    changes = world.undisturbed(("store",), words).done[0].changes
    for dies_at in range(changes, 0, -1):
        running = world.zygote.start(world.lay(place, "store"), *words, environment=SLEEPY, dies_at=dies_at)
        running.wait()
        if not (place / "run" / "generator.safetensors").exists():
            return ("run",)
        shutil.rmtree(place / "run")
    raise RuntimeError("no kill left a run without a generator")


def _predicted(world: World, place: Path, method: str) -> Words:
    world.make(world.lay(place, "store", f"run:{method}"), (*PREDICT, *(["--gates"] if method == GATED else [])))
    return ("run",)


def _scored(world: World, place: Path, method: str) -> Words:
    world.make(world.lay(place, "store", f"predicted:{method}"), SCORE)
    return ("run",)


def _told(world: World, place: Path, method: str) -> Words:
    world.lay(place, "store", f"scored:{method}")
    for words in (TABLE, REPORT):
        world.make(place, words)
    return ("run", "out")


RECIPES: dict[str, Callable[[World, Path, str], Words]] = {
    "tiles": _tiles,
    "store": _store,
    "blank": _blank,
    "compact": _compact,
    "damaged_store": _damaged_store,
    "half_store": _half_store,
    "run": _run,
    "half_run": _half_run,
    "predicted": _predicted,
    "scored": _scored,
    "told": _told,
}
