"""Published sets that a folder can be told to be, and how many pairs they have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from prep.settings import Layout
from prep.tiles.folders.recognise import Reading
from prep.tiles.folders.words import LOOKED_THROUGH, plain_word

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


def known_set(reading: Reading, folder: str, stain: str, names: Sequence[str]) -> KnownSet | None:
    """The published set that a reading is part of, if names tell.

    MIST is told by TrainValAB or by parts of a download in its layout, BCI by the names of its pictures. `folder` is
    the name of the data folder, `names` are names of pictures without suffix.
    """
    if reading.layout is Layout.MIST:
        told = reading.parts or LOOKED_THROUGH in plain_word(f"{folder}/{reading.folders}")
        words = (reading.marker, plain_word(folder), plain_word(stain))
        return next((one for one in MIST if told and one.marker in words), None)
    return BCI if names and all(BCI_NAME.fullmatch(name.rpartition("/")[2]) for name in names) else None
