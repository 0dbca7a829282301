"""The attacks, and how one case of an attack is run: alone, in an empty folder, the same for the same seed."""

from __future__ import annotations

import random
import shutil
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.attack import damage, kills, pictures, twos
from tests.attack.fuzz import cases as fuzz
from tests.attack.verdict import Broken, Outcome, Verdict
from tests.attack.world import World

Case = Callable[[World, Path, random.Random, int], Verdict]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What an attack is called, what it tries to break, how many cases it has, and its share of the time."""

    name: str
    promise: str
    case: Case
    most: int
    share: float


ATTACKS = {
    attack.name: attack
    for attack in (
        Attack(name="kills", promise=kills.PROMISE, case=kills.case, most=400, share=0.15),
        Attack(name="damage", promise=damage.PROMISE, case=damage.case, most=1000, share=0.15),
        Attack(name="twos", promise=twos.PROMISE, case=twos.case, most=120, share=0.05),
        Attack(name="fuzz", promise=fuzz.PROMISE, case=fuzz.case, most=2000, share=0.5),
        Attack(name="pictures", promise=pictures.PROMISE, case=pictures.case, most=80, share=0.15),
    )
}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A case that was run."""

    attack: str
    number: int
    seconds: float
    verdict: Verdict


def run_case(attack: Attack, world: World, folder: Path, seed: int, number: int) -> Ran:
    """Run one case in a new folder, which stays if the case fails."""
    place, began = folder / f"{attack.name}-{number}", time.monotonic()
    place.mkdir()
    try:
        verdict = attack.case(world, place, random.Random(f"{seed} {attack.name} {number}"), number)
    except Broken as broken:
        verdict = Verdict(Outcome.FAILED, broken.what, str(broken))
    except Exception:
        verdict = Verdict(Outcome.FAILED, "the attack itself", traceback.format_exc()[-1500:])
    if verdict.outcome is not Outcome.FAILED:
        shutil.rmtree(place, ignore_errors=True)
    return Ran(attack=attack.name, number=number, seconds=time.monotonic() - began, verdict=verdict)


def report(ran: Iterable[Ran], seed: int, seconds: float) -> str:
    """A table of the attacks, one of what was attacked, and every failure with the command that repeats it."""
    listed = list(ran)
    lines = [f"# Attacks with seed {seed}: {len(listed)} cases in {seconds:.0f} s", ""]
    lines += ["| attack | promise | cases | same | recovered | refused | failed | seconds |"]
    lines += ["|---|---|--:|--:|--:|--:|--:|--:|"]
    for attack in ATTACKS.values():
        own = [one for one in listed if one.attack == attack.name]
        if own:
            lines.append(f"| {attack.name} | {attack.promise} | {_counts(own)} |")
    lines += ["", "| attack | what | cases | same | recovered | refused | failed | seconds |"]
    lines += ["|---|---|--:|--:|--:|--:|--:|--:|"]
    for name, what in sorted({(one.attack, one.verdict.what) for one in listed}):
        own = [one for one in listed if (one.attack, one.verdict.what) == (name, what)]
        lines.append(f"| {name} | {what} | {_counts(own)} |")
    failures = [one for one in listed if one.verdict.outcome is Outcome.FAILED]
    lines += ["", f"## {len(failures)} failures" if failures else "No failures.", ""]
    for one in failures:
        again = f"python -m tests.attack --seed {seed} --only {one.attack} --case {one.number}"
        lines += [f"- `{again}`: {one.verdict.what}: {' '.join(one.verdict.detail.split())}"]
    return "\n".join(lines) + "\n"


def _counts(ran: list[Ran]) -> str:
    numbers = [sum(one.verdict.outcome is outcome for one in ran) for outcome in Outcome]
    return " | ".join(map(str, [len(ran), *numbers, round(sum(one.seconds for one in ran))]))
