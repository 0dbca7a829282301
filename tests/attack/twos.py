"""Two commands at once on the same place: one or both succeed, and what is left is what one alone leaves."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.attack.kills import compare
from tests.attack.machine.processes import Done
from tests.attack.recipes import BUILD, COPY, DEMO, FIRST, GATED, PREDICT, REPAIR, REPORT, SCORE, SEEDED, TABLE, Words
from tests.attack.verdict import Broken, Outcome, Verdict, require_orderly
from tests.attack.world import World, contents

PROMISE = "Of two commands at once on one place both succeed, or one is refused; what is left is what one alone leaves"


def pairs(world: World) -> list[tuple[str, Words, Words, Words]]:
    """The name of a pair of commands, what they work on, and both."""
    fit, gates = world.fit(), (*PREDICT, "--gates")
    damaged, store = ("tiles", "damaged_store:one"), ("store",)
    return [
        ("build, build", ("tiles",), BUILD, BUILD),
        ("build, repair", ("tiles", "half_store"), BUILD, REPAIR),
        ("repair, repair", damaged, REPAIR, REPAIR),
        ("fit, fit", store, fit, fit),
        ("predict, predict", (*store, f"run:{FIRST}"), PREDICT, PREDICT),
        ("gates, gates", (*store, f"run:{GATED}"), gates, gates),
        ("predict, score", (*store, f"predicted:{FIRST}"), PREDICT, SCORE),
        ("score, score", (*store, f"predicted:{FIRST}"), SCORE, SCORE),
        ("table, table", (*store, f"scored:{FIRST}"), TABLE, TABLE),
        ("report, report", (*store, f"scored:{FIRST}"), REPORT, REPORT),
        ("download, download", (), world.fetch, world.fetch),
        ("copy, download", ("weights_source",), COPY, world.fetch),
        ("demo, demo", (), DEMO, DEMO),
        ("networks, networks", (*store, f"predicted:{FIRST}"), SEEDED, SEEDED),
        ("table, score", (*store, f"scored:{FIRST}"), TABLE, SCORE),
    ]


def case(world: World, place: Path, chance: random.Random, number: int) -> Verdict:
    """Start two commands, the second at once or a little later."""
    chosen = pairs(world)
    name, trees, first, second = chosen[number % len(chosen)]
    whole = world.undisturbed(trees, *([first] if first == second else [first, second]))
    world.lay(place, *trees)
    try:
        one = world.start(place, first)
        time.sleep(chance.choice((0, 1, 1)) * chance.uniform(0, whole.done[0].seconds))
        two = world.start(place, second)
        ends = [running.wait() for running in (one, two)]
        for done in ends:
            require_orderly(done, 0, 2)
        require_one_success(ends)
        if first != second and any(done.code for done in ends):  # the refused one, alone
            require_orderly(world.run(place, (first, second)[ends[0].code == 0]), 0)
        compare(whole.left, contents(place), " / ".join(done.err.strip()[-150:] for done in ends))
    except Broken as broken:
        raise Broken(str(broken), name) from broken
    return Verdict(Outcome.SAME if all(done.code == 0 for done in ends) else Outcome.REFUSED, name)


def require_one_success(ends: list[Done]) -> None:
    """Raise Broken if all were refused."""
    if all(done.code for done in ends):
        raise Broken(f"both refused: {' / '.join(done.err.strip()[-200:] for done in ends)}")
