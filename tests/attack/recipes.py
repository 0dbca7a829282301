"""How everything that is attacked is made: words of commands, and a recipe for each tree."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from store.files import files_of
from store.images import write_png
from tests.attack.machine.mirror import DATA, SMALL
from tests.support.damage import alter
from tests.support.stores import draw_tile

if TYPE_CHECKING:
    from tests.attack.world import World

Words = tuple[str, ...]
SIDE = 192  # px; views of 96 px are the least for a PatchGAN of five layers
TRAIN, TEST = [f"s{slide}_{row}_0" for slide in (1, 2) for row in range(3)], [f"s3_{row}_0" for row in range(3)]
BLANKS = ("both", "white", "black", "chequered", "one pixel")  # pairs without tissue, in place of one or two of train


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
SEEDED: Words = ("score-seeded", "--run", "run")  # with networks, which are drawn
TRANSLATE: Words = (
    *("train", "translate", "tiles/valA", "--run", "run", "--out", "translated", "--format", "ome-tiff"),
    *sets("tile=64", "overlap=16", "norm_statistics=local"),
)
COPY: Words = ("weights", "small.pth", "--folder", "weights", "--from", "small.pth")
DEMO: Words = (
    *("prep", "demo", "--out", "demo"),
    *sets("slides=2", "held_out=1", "rows=1", "columns=2", "tile_side=96"),
)
FIRST, GATED = "pix2pix", "attention_gan"  # the method of most runs, and the one with attention maps


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
    world.start(world.lay(place, "tiles"), BUILD, dies_at=changes * 6 // 10).wait()
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
        running = world.start(world.lay(place, "store"), words, dies_at=dies_at)
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


def _features(world: World, place: Path, method: str) -> Words:
    world.make(world.lay(place, "store", f"predicted:{method}"), SEEDED)
    return ("features",)


def _weights(world: World, place: Path, method: str) -> Words:
    world.make(world.lay(place, "weights_source"), COPY)
    return ("weights",)


def _weights_source(world: World, place: Path, method: str) -> Words:
    (place / SMALL.name).write_bytes(DATA)
    return (SMALL.name,)


def _demo(world: World, place: Path, method: str) -> Words:
    world.make(place, DEMO)
    return ("demo",)


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
    "features": _features,
    "weights": _weights,
    "weights_source": _weights_source,
    "demo": _demo,
}
