"""Kills at any moment: the same command again ends as if nothing had happened."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from tests.attack.alike import unlike
from tests.attack.recipes import BUILD, DASK, FIRST, GATED, PREDICT, REPAIR, SCORE, SEEDED, TRANSLATE, Words
from tests.attack.verdict import Broken, Outcome, Verdict, require_orderly
from tests.attack.world import World, contents

PROMISE = "A command that is killed at any moment, once or twice, and run again leaves what an undisturbed one leaves"


@dataclass(frozen=True)
class Target:
    """A command to kill, and what it works on."""

    name: str
    trees: Words
    words: Words


def targets(world: World) -> list[Target]:
    """Every command that writes; there are as many fits as methods, and what is slow is rare."""
    steady = [
        Target("build", ("tiles",), BUILD),
        Target("build in threads", ("tiles",), (*BUILD, "--threads", "3")),
        Target("repair", ("tiles", "damaged_store:one"), REPAIR),
        Target("repair", ("tiles", "damaged_store:another"), REPAIR),
        Target("repair without root", ("tiles", "damaged_store:rootless"), REPAIR),
        Target("predict", ("store", f"run:{FIRST}"), PREDICT),
        Target("predict with gates", ("store", f"run:{GATED}"), (*PREDICT, "--gates")),
        Target("score", ("store", f"predicted:{FIRST}"), SCORE),
        Target("translate", ("tiles", f"run:{GATED}"), TRANSLATE),
        Target("download", (), world.fetch),
    ]
    fits = [Target(f"fit {method}", ("store",), world.fit(method)) for method in world.narrow]
    mixed = [each for fit in fits for each in (*steady, fit)]
    rare = [
        Target("build on Dask", ("tiles",), DASK),
        Target("score with networks", ("store", f"predicted:{FIRST}"), SEEDED),
    ]
    return [*mixed, *rare]


def case(world: World, place: Path, chance: random.Random, number: int) -> Verdict:
    """Kill one command."""
    chosen = targets(world)
    target = chosen[number % len(chosen)]
    whole = world.undisturbed(target.trees, target.words)
    world.lay(place, *target.trees)
    try:
        for _ in range(chance.choice((1, 1, 2))):
            _kill(world, place, target.words, whole.done[0].changes, whole.done[0].seconds, chance)
        done = world.run(place, target.words)
        require_orderly(done, 0)
        compare(whole.left, contents(place), done.err)
    except Broken as broken:
        raise Broken(str(broken), target.name) from broken
    return Verdict(Outcome.SAME, target.name)


def _kill(world: World, place: Path, words: Words, changes: int, seconds: float, chance: random.Random) -> None:
    """Kill a command before one of its changes of files, or at any time."""
    by_change = chance.random() < 0.6
    dies_at, moment = chance.randint(1, max(1, changes)), chance.uniform(0, seconds)
    running = world.start(place, words, dies_at if by_change else 0)
    if not by_change:
        time.sleep(moment)
        running.kill()
    done = running.wait()
    if done.code not in (0, -9):
        require_orderly(done, 0)


def compare(whole: dict[str, bytes], left: dict[str, bytes], said: str) -> None:
    """Raise Broken where files differ from those of an undisturbed command."""
    lost, extra = sorted(whole.keys() - left.keys()), sorted(left.keys() - whole.keys())
    altered = [name for name in unlike(whole, left) if name in whole and name in left]
    found = {"missing": lost, "left over": extra, "other bytes": altered}
    if any(found.values()):
        words = "; ".join(f"{kind}: {', '.join(names[:4])}" for kind, names in found.items() if names)
        raise Broken(f"the result differs ({words}); it last said: {said.strip()[-300:]}")
