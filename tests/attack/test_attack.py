"""A short form of `make attack`: a few cases of each attack, always the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.attacks import ATTACKS, run_case
from tests.attack.machine.mirror import mirror
from tests.attack.machine.processes import zygote
from tests.attack.verdict import Outcome
from tests.attack.world import World

SEED = 0
CASES = {  # numbers of cases; they share what they work on
    "kills": (0, 2),
    "damage": (0, 1, 4, 11),
    "twos": (0,),
    "fuzz": (0, 1, 2, 4, 8, 12, 13, 14),
    "pictures": (6,),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """What is attacked, and the warmed process."""
    folder = tmp_path_factory.mktemp("attack")
    (folder / "world").mkdir()
    with zygote(folder) as warmed, mirror() as address:
        yield World(warmed, folder / "world", address)


@pytest.mark.parametrize(("name", "number"), [(name, number) for name in CASES for number in CASES[name]])
def test_a_promise_is_kept(world: World, tmp_path: Path, name: str, number: int) -> None:
    ran = run_case(ATTACKS[name], world, tmp_path, SEED, number)
    assert ran.verdict.outcome is not Outcome.FAILED, ran.verdict.detail


def test_every_attack_has_a_short_form() -> None:
    assert CASES.keys() == ATTACKS.keys()
