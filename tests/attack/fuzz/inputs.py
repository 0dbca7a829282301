"""Settings and tiles that a person gives: keys, values, files and pictures that nobody checked."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.attack.fuzz.mutate import hostile_names, mutate_bytes
from tests.attack.fuzz.stores import replace
from tests.attack.recipes import Words, sets

KEYS = ("method", "seed", "device", "precision", "data.views", "data.workers", "generator.base", "generator.blocks",
        "generator.depth", "discriminator.layers", "optimiser.learning_rate", "optimiser.betas", "optimiser.batch",
        "optimiser.constant_epochs", "contrast.patches", "weights.l1", "checkpoint_every", "time_limit", "view_side",
        "unit", "margin", "recipe", "boxes", "upscaler", "mpp", "slide_pattern", "name", "codec", "held_out", "a.b.c",
        "", ".", "a" * 1000, ".".join("a" * 20_000), "__class__")  # fmt: skip
VALUES = (-1, 0, 1, 3, 10**9, 10**12, 10**30, 1e308, "inf", "nan", "[1,2]", "'x'", "{}", "[[[[", "true")


def forge_settings(place: Path, chance: random.Random, outside: Path) -> Words:
    """A TOML file or `--set` with values and keys that nobody checked; returned as words."""
    names = hostile_names(outside)
    key, value = chance.choice((*KEYS, *KEYS, *names)), chance.choice((*VALUES, *names))
    if chance.random() < 0.5:
        return sets(f"{key}={value}".replace("\0", ""))
    text = f"{key} = {value if not isinstance(value, str) else json.dumps(value)}\n"
    nested = f"a = {'[' * 5000}{']' * 5000}\n"
    shapes = (text, text, text, "[" * 5000, nested, text * 2, "x" * 400_000, f"[{key}]\n", "\0", "a = 1\n" * 50_000)
    (place / "hostile.toml").write_bytes(chance.choice(shapes).encode("utf-8", "replace"))
    return ("--config", "hostile.toml")


def forge_picture(place: Path, chance: random.Random, outside: Path) -> Words:
    """One tile, its header above all."""
    file = chance.choice(sorted(place.glob("tiles/*/*.*")))
    replace(file, mutate_bytes(file.read_bytes(), chance, 200))
    return ()
