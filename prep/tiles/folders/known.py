"""Published sets that a folder can be told to be, and how many pairs they have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from prep.tiles.folders.words import plain_word

BCI_NAME = re.compile(r"\d{5}_(train|test)_[0-3]\+?")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSet:
    """A published set with its numbers of pairs."""

    name: str
    marker: str
    train: int
    test: int

    @property
    def size(self) -> str:
        """Its numbers, for a person."""
        return f"{self.name} has {self.train} + {self.test} pairs"


# Li et al., Adaptive Supervised PatchNCE Loss, MICCAI 2023: https://github.com/lifangda01/AdaptiveSupervisedPatchNCE
MIST = (
    KnownSet(name="MIST HER2", marker="her2", train=4642, test=1000),
    KnownSet(name="MIST Ki67", marker="ki67", train=4361, test=1000),
    KnownSet(name="MIST ER", marker="er", train=4153, test=1000),
    KnownSet(name="MIST PR", marker="pr", train=4139, test=1000),
)
# Liu et al., BCI, CVPR Workshops 2022: https://bci.grand-challenge.org counts them
BCI = KnownSet(name="BCI", marker="", train=3896, test=977)


def mist_set(*words: str) -> KnownSet | None:
    """The set of MIST whose marker is one of these words, the first of them that is a marker of MIST."""
    plain = [plain_word(word) for word in words]
    return next((one for word in plain for one in MIST if one.marker == word), None)


def is_bci(names: Sequence[str]) -> bool:
    """Whether pictures of these names without suffix are those of BCI."""
    return bool(names) and all(BCI_NAME.fullmatch(name.rpartition("/")[2]) for name in names)


def tell_parts(parts: Sequence[int]) -> str:
    """Which parts of a download are here and which must be missing."""
    lacking = sorted({*range(1, max(parts) + 1)} - {*parts})
    missing = f"; part(s) {_numbers(lacking)} are missing" if lacking else ""
    return f"part(s) {_numbers(parts)} of a download are here{missing}: unpack every part beside the others"


def _numbers(parts: Sequence[int]) -> str:
    return ", ".join(map(str, parts))
