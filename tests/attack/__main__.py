"""`make attack`: run all attacks within a time, print a report, and exit with 1 if a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from tests.attack.attacks import ATTACKS, Attack, Ran, report, run_case
from tests.attack.machine.mirror import mirror
from tests.attack.machine.processes import zygote
from tests.attack.verdict import Outcome
from tests.attack.world import World

AT_ONCE = 2  # cases; the cores that the time is meant for


@dataclass
class Schedule:
    """Who is next: the attack that has used the smallest part of its share, until all are through or time is up."""

    attacks: list[Attack]
    deadline: float
    used: dict[str, float] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def take(self) -> tuple[Attack, int] | None:
        """The next case; None at the end."""
        with self.lock:
            left = [attack for attack in self.attacks if self.begun.get(attack.name, 0) < attack.most]
            if not left or time.monotonic() > self.deadline:
                return None
            attack = min(left, key=lambda one: (self.used.get(one.name, 0) / one.share, self.begun.get(one.name, 0)))
            number = self.begun.get(attack.name, 0)
            self.begun[attack.name] = number + 1
            self.used[attack.name] = self.used.get(attack.name, 0) + 0.5  # until it is known
            return attack, number

    def give(self, ran: Ran) -> None:
        """Count the seconds of a case."""
        with self.lock:
            self.used[ran.attack] += ran.seconds - 0.5


def main() -> None:
    """Read the arguments, attack, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description="Attack what the programs promise.")
    parser.add_argument("--seed", type=int, default=0, help="another one draws other cases")
    parser.add_argument("--minutes", type=float, default=15.0, help="for all attacks together")
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), default=list(ATTACKS), help="some of the attacks")
    parser.add_argument("--case", type=int, help="one case alone, as a report names it; its folder is kept")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    asked = parser.parse_args()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    (folder / "world").mkdir()
    with zygote(folder) as warmed, mirror() as address:
        world = World(warmed, folder / "world", address, asked.seed)
        if asked.case is not None:
            ran = [run_case(ATTACKS[name], world, folder, asked.seed, asked.case) for name in asked.only]
        else:
            chosen = [ATTACKS[name] for name in asked.only]
            ran = attack(Schedule(chosen, began + 60 * asked.minutes), world, folder, asked.seed)
    text = report(ran, asked.seed, time.monotonic() - began)
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    failed = any(one.verdict.outcome is Outcome.FAILED for one in ran)
    print(f"folders: {folder}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def attack(schedule: Schedule, world: World, folder: Path, seed: int) -> list[Ran]:
    """Run cases until the schedule ends, several at once; in the order of their ends."""
    ran: list[Ran] = []

    def work() -> None:
        while (taken := schedule.take()) is not None:
            one = run_case(taken[0], world, folder, seed, taken[1])
            schedule.give(one)
            ran.append(one)
            if one.verdict.outcome is Outcome.FAILED:
                said = " ".join(one.verdict.detail.split())[:300]
                print(f"failed: {one.attack} {one.number}: {one.verdict.what}: {said}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for future in [pool.submit(work) for _ in range(AT_ONCE)]:
            future.result()
    return ran


if __name__ == "__main__":
    main()
