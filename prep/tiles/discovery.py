"""The pairs of a data folder: the layout is found, tiles are paired, slides are named, every pair gets its split.

Only names are read here, no picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prep.refusals import Refusals
from prep.settings import PrepSettings, SplitRule, how_to_set
from prep.tiles.layouts import find_data_set, two_folders
from prep.tiles.pairs import Discovery, pair_tiles
from prep.tiles.splits import hold_out_val, name_slides, require_slides, resplit
from prep.views import check_tile_side
from store.schema import PairingError, Split
from store.untrusted.names import clash


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Where the tiles are: one data folder, or (`he` and `ihc` differ) one folder for each stain."""

    he: Path
    ihc: Path

    @property
    def single(self) -> bool:
        """Whether one folder holds everything, in a layout that is read from its folders."""
        return self.he == self.ihc

    @property
    def name(self) -> str:
        """The name of the data set unless a setting gives one."""
        return self.he.resolve().name if self.single else self.he.resolve().parent.name


def find_pairs(settings: PrepSettings, data: Data, refusals: Refusals | None = None) -> Discovery:
    """The candidates in the data folders, in the split that the settings ask for.

    Raises PairingError, or SchemaError if squares of the side that the settings ask for do not fit the recipe. With
    `refusals` a split that is refused is collected there, and the candidates are not split.
    """
    check_tile_side(settings)
    found = _find(settings, data)
    if refusals is None:
        found = _split(settings, data, found)
    else:
        with refusals.collect():
            found = _split(settings, data, found)
    for split in Split:
        if fault := clash(candidate.id for candidate in found.candidates if candidate.split is split):
            raise PairingError(f"{data.he}: of the {split} pairs {fault}; rename one of them")
    return found


def _find(settings: PrepSettings, data: Data) -> Discovery:
    data_set = find_data_set(data.he, settings.layout) if data.single else two_folders(data.he, data.ihc)
    paired = pair_tiles(data_set)
    found = name_slides(paired, settings.slide_pattern)
    if not found.candidates:
        raise PairingError(_no_pair(data, found))
    return found


def _split(settings: PrepSettings, data: Data, found: Discovery) -> Discovery:
    """The candidates in the split that the settings ask for."""
    holds_out = settings.val_fraction or settings.val_slides
    if (settings.split is SplitRule.BY_SLIDE or holds_out) and not settings.slide_pattern:
        require_slides(found)
    if settings.split is SplitRule.BY_SLIDE:
        return resplit(
            found,
            seed=settings.seed,
            val_fraction=settings.val_fraction,
            test_fraction=settings.test_fraction,
            test_slides=settings.test_slides,
            val_slides=settings.val_slides,
        )
    if not found.published:
        raise PairingError(
            f"{data.he}: layout {found.layout} has no test set of its own, and split = published needs one; "
            f"set split=by-slide to hold slides out for test: {how_to_set('split=by-slide')}"
        )
    if not holds_out:
        return found
    return hold_out_val(found, seed=settings.seed, val_fraction=settings.val_fraction, val_slides=settings.val_slides)


def _no_pair(data: Data, found: Discovery) -> str:
    """The error if no names agree: how many tiles each stain has, with a name of each."""
    he, ihc = ([name for name in names if name] for names in zip(*((t.he, t.ihc) for t in found.unpaired), strict=True))
    where = data.he if data.single else f"{data.he} and {data.ihc}"
    return (
        f"{where}: no pair was found: no H&E and IHC tile have the same name; {len(he)} H&E tile(s), for example "
        f"{he[0]!r}, and {len(ihc)} IHC tile(s), for example {ihc[0]!r}; give the two tiles of a pair the same name "
        "(suffixes such as .png may differ)"
    )
