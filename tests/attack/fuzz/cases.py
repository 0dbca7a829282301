"""A case of the fuzzer: one changed file, one command under limits of memory and time, nothing written elsewhere."""

from __future__ import annotations

import os
import random
import re
import shutil
from pathlib import Path

from tests.attack.fuzz.prey import PREY
from tests.attack.verdict import Broken, Outcome, Verdict, require_orderly
from tests.attack.world import World

PROMISE = "Hostile stores, records, weights and settings: no crash, no hang, no gigabyte, nothing written elsewhere"
MEMORY = 1 << 30  # bytes beyond what the process has at its start
SECONDS = 60.0
OURS = re.compile(r"(run|run\.partial|out|store|small|features)(/|$)|store-\w+-\d+\.png$|store\.zarr(\.journal)?(/|$)")


def case(world: World, place: Path, chance: random.Random, number: int) -> Verdict:
    """Change one file and run one command; the kinds of files in turn."""
    prey = PREY[number % len(PREY)]
    work, outside = place / "house" / "floor" / "work", place / "outside"
    work.mkdir(parents=True)
    outside.mkdir()
    for name in prey.linked:
        shutil.copytree(world.tree(name), work, copy_function=os.link, dirs_exist_ok=True)
    world.lay(work, *prey.copied)
    more = prey.change(work, chance, outside)
    words = (*chance.choice(prey.commands(world)), *more)
    before = listing(place)
    try:
        done = world.run(work, words, memory=MEMORY, timeout=SECONDS)
        require_orderly(done, 0, 2)
        require_inside(before, listing(place), work.relative_to(place).as_posix())
    except Broken as broken:
        raise Broken(str(broken), prey.name) from broken
    return Verdict(Outcome.REFUSED if done.code else Outcome.SAME, prey.name)


def listing(place: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below a place, with its size and time of change."""
    found = {}
    for path in place.rglob("*"):
        facts = path.lstat()
        name = path.relative_to(place).as_posix()
        found[name] = (0, 0) if path.is_dir() else (facts.st_size, facts.st_mtime_ns)
    return found


def require_inside(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]], work: str) -> None:
    """Raise Broken if anything changed that is not the command's own to write."""
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    strange = sorted(name for name in changed if not OURS.match(name.removeprefix(work + "/")))
    if strange:
        raise Broken(f"written elsewhere: {', '.join(strange[:5])}")
