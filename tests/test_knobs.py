"""Every knob there is, with its default: a new one, or a changed default, is a decision that this file shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prep.demo.draw import DemoSettings
from prep.settings import PrepSettings
from store.settings import plain
from tests.support.places import GOLDEN
from train.settings import TrainSettings

NUMBERS = GOLDEN / "settings.txt"
ROOMS = {"demo": DemoSettings(), "prep": PrepSettings(), "train": TrainSettings()}


def knobs(tree: Mapping[str, object], prefix: str) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from knobs(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key} = {value!r}"


def test_the_settings_are_the_known_ones() -> None:
    found = [line for room, settings in ROOMS.items() for line in knobs(plain(settings), room)]
    assert found == NUMBERS.read_text(encoding="utf-8").splitlines()
