"""Pictures without tissue through every method: training stays finite, and Adam remembers no explosion."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from tests.attack.recipes import BLANKS, PREDICT, Words
from tests.attack.verdict import Broken, Outcome, Verdict, require_orderly
from tests.attack.world import World

PROMISE = (
    "A white, black, chequered or one-pixel pair among others: every method trains on in fp32 and bf16, finite, with "
    "second moments of Adam within ten times those of a run without it (chequered: those of fp32, which are large)"
)
FACTOR = 10.0
PRECISIONS = ("bf16", "fp32")


def case(world: World, place: Path, chance: random.Random, number: int) -> Verdict:
    """Train one method in one precision on a store with one such pair, or with two of different kinds."""
    everything = [(method, precision) for method in world.narrow for precision in PRECISIONS]
    method, precision = everything[number % len(everything)]
    blank = BLANKS[(number + number // len(everything)) % len(BLANKS)]
    words, what = fit(world, method, precision), f"{method} {precision}"
    with_it, without = place / "with", place / "without"
    try:
        with_it.mkdir()
        require_orderly(world.run(world.lay(with_it, f"blank:{blank}"), words), 0)
        found = moments(world, with_it)
        chequered = blank == "chequered"  # a real picture with real gradients: only bf16 must add nothing to them
        tree, usual = ("blank:chequered", fit(world, method, "fp32")) if chequered else ("store", words)
        with world.lock:
            known = world.folder / f"moments-{method}-{precision}-{tree.replace(':', '-')}.json"
            if not known.exists():
                without.mkdir()
                world.make(world.lay(without, tree), usual)
                known.write_text(json.dumps(moments(world, without)))
        compare(json.loads(known.read_text()), found)
        require_orderly(world.run(with_it, PREDICT), 0)
    except Broken as broken:
        raise Broken(f"{blank}: {broken}", what) from broken
    return Verdict(Outcome.SAME, what)


def fit(world: World, method: str, precision: str) -> Words:
    """The words that train twelve steps."""
    words = tuple(word.replace("precision=fp32", f"precision={precision}") for word in world.fit(method))
    return tuple(word.replace("constant_epochs=1", "constant_epochs=2") for word in words)


def moments(world: World, place: Path) -> dict[str, Any]:
    """The largest second moment of each player, and whether everything in the newest checkpoint is finite."""
    found: dict[str, Any] = json.loads(world.make(place, ("moments", "run")).out)
    return found


def compare(without: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise Broken if anything is not finite, or a second moment too large."""
    if found["infinite"]:
        raise Broken(f"not finite: {', '.join(found['infinite'][:5])}")
    for player, largest in found["moments"].items():
        usual = without["moments"][player]
        if not math.isfinite(largest) or largest > FACTOR * usual:
            raise Broken(f"the second moments of the {player} reach {largest:.3g}, and {usual:.3g} without the pair")
