"""What is changed, and which commands then read it: stores, records, generators, checkpoints, settings, pictures."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.attack.fuzz.inputs import forge_picture, forge_settings
from tests.attack.fuzz.runs import forge_checkpoint, forge_foreign, forge_generator, forge_lines, forge_record
from tests.attack.fuzz.stores import forge_array, forge_root, forge_shard, forge_table
from tests.attack.recipes import BUILD, GATED, PREDICT, REPORT, SCORE, TABLE, Words
from tests.attack.world import World

STORE: tuple[Words, ...] = (
    *(("store", verb, "store.zarr") for verb in ("info", "verify", "show")),
    ("store", "show", "store.zarr", "--pair", "1", "--split", "train"),
)
TRAIN_SPLIT: Words = (*PREDICT, "--store", "store.zarr", "--split", "train")
IMPORT: Words = ("train", "import-asp", "net_G.pth", "--run", "out")
TRANSLATE: Words = ("train", "predict", "--run", "run", "--store", "store.zarr")


@dataclass(frozen=True)
class Prey:
    """What is laid out, how it is changed in its folder, and commands of which one is run afterwards.

    Trees whose files are only replaced, never written into, are `linked` instead of copied.
    """

    name: str
    linked: Words
    copied: Words
    change: Callable[[Path, random.Random, Path], Words]
    commands: Callable[[World], tuple[Words, ...]]


READ: tuple[Words, ...] = (*STORE[2:], TRANSLATE)
PREY = (
    Prey("root of a store", ("store",), ("run",), forge_root, lambda world: (*STORE, *STORE, TRANSLATE, world.fit())),
    Prey("metadata of an array", ("store",), ("run",), forge_array, lambda world: (*STORE, TRANSLATE, world.fit())),
    Prey("shard of pictures", ("store",), ("run",), forge_shard, lambda world: (*READ, world.fit())),
    Prey("shard of JPEG-XL", ("compact",), ("run",), forge_shard, lambda _: READ),
    Prey("pair table", ("store",), ("run",), forge_table, lambda _: (*STORE, TRANSLATE, TRAIN_SPLIT)),
    Prey("record", ("store",), ("scored",), forge_record, lambda world: (PREDICT, SCORE, TABLE, REPORT, world.fit())),
    Prey("maps", ("store",), (f"predicted:{GATED}",), forge_record, lambda _: ((*PREDICT, "--gates"),)),
    Prey("settings and metrics", ("store",), ("told",), forge_lines, lambda world: (PREDICT, REPORT, world.fit())),
    Prey("generator", ("store",), ("run",), forge_generator, lambda world: (PREDICT, PREDICT, world.fit())),
    Prey("checkpoint", ("store",), ("half_run",), forge_checkpoint, lambda world: (world.fit(),)),
    Prey("foreign tensors", (), ("half_run",), forge_foreign, lambda _: (IMPORT,)),
    Prey("settings", ("store", "tiles"), (), forge_settings, lambda world: (world.fit(), (*BUILD, "--dry-run"))),
    Prey("tile", ("tiles",), (), forge_picture, lambda _: (BUILD,)),
)  # fmt: skip
