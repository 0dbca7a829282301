"""Every setting with its default: a new setting or a changed default is a decision, and shows in one golden file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prep.demo.draw import DemoSettings
from prep.settings import PrepSettings
from store.settings import plain
from tests.support.places import GOLDEN
from train.settings import TrainSettings
from train.translate.settings import TranslateSettings

PAGES = {"demo": DemoSettings(), "prep": PrepSettings(), "train": TrainSettings(), "translate": TranslateSettings()}


def lines(tree: Mapping[str, object], prefix: str) -> Iterator[str]:
    """`prefix.key = value` for each setting."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from lines(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key} = {value!r}"


def test_the_settings_are_the_known_ones() -> None:
    found = [line for page, settings in PAGES.items() for line in lines(plain(settings), page)]
    assert found == (GOLDEN / "settings.txt").read_text(encoding="utf-8").splitlines()
