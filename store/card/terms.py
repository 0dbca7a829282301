"""Terms of use of a data set: as set, as found beside the tiles, or as the authors of a public set state them.

A public set is recognised by its numbers of pairs only, which is said. Sources: the README of
github.com/lifangda01/AdaptiveSupervisedPatchNCE (MIST) and BCI_LICENSE.md of github.com/bupt-ai-cz/BCI, read in 2026.
"""

from __future__ import annotations

from dataclasses import dataclass

from store.card.measured import Measured
from store.schema import Manifest, Split

UNKNOWN = "unknown: ask who gave you the data"
_MIST = (
    "its authors ask to cite their paper and name no licence "
    "(README of github.com/lifangda01/AdaptiveSupervisedPatchNCE)"
)
_BCI = (
    "its authors allow non-commercial use with a reference to BCI, forbid to identify persons, and reserve all other "
    "rights (BCI_LICENSE.md of github.com/bupt-ai-cz/BCI)"
)
_PUBLIC = {  # published pairs of train and test
    (4642, 1000): ("MIST HER2", _MIST),
    (4361, 1000): ("MIST Ki67", _MIST),
    (4153, 1000): ("MIST ER", _MIST),
    (4139, 1000): ("MIST PR", _MIST),
    (3896, 977): ("BCI", _BCI),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Terms of use in words, and where they are from: `setting`, `file`, `authors`, `unknown`."""

    text: str
    source: str


def find_terms(manifest: Manifest, measured: Measured | None) -> Terms:
    """The terms of a store's data set, the surest source first."""
    if given := manifest.settings.get("terms"):
        return Terms(text=str(given), source="setting")
    if measured and measured.terms:
        files = "; ".join(f"{one.name}: {one.line} (sha256 {one.sha256})" for one in measured.terms)
        return Terms(text=files, source="file")
    if manifest.synthetic:
        return Terms(text="drawn by `python -m prep demo`: no data of patients", source="authors")
    train = manifest.counts.get(Split.TRAIN, 0) + manifest.counts.get(Split.VAL, 0)
    known = _PUBLIC.get((train, manifest.counts.get(Split.TEST, 0)))
    if known and manifest.paired:
        return Terms(text=f"the numbers of pairs are those of {known[0]}; if it is that: {known[1]}", source="authors")
    return Terms(text=UNKNOWN, source="unknown")
