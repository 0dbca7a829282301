"""Messages about bad pairs: how many, which, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from prep.settings import Layout, how_to_set
from store.pairs.table import Skipped, Table
from store.schema import PairingError, Split, Stain

SKIP = "--skip-bad (make: SKIP_BAD=1)"
SHOWN = 5  # of each kind in an error, which is one line


def refuse_bad(
    skipped: Sequence[Skipped], layout: Layout, cut: str = "", names: str = "", *, paired: bool = True
) -> None:
    """Raise PairingError if there is a bad pair: how many of which kind, the first names with reasons, what to do.

    `cut` says how squares are cut from pictures that have the wrong shape, and `names` which settings would pair more
    names, if there are such. Where tiles are not `paired`, each is bad alone.
    """
    if skipped:
        hints = f"{cut_hint(cut)}{_layout_hint(layout)}"
        way = f"{names}; or correct them" if names else "correct them"
        raise PairingError(f"{_listing(skipped, paired=paired)}; {way}, or skip them with {SKIP}{hints}")


def refuse_empty(table: Table, layout: Layout, cut: str = "", *, paired: bool = True) -> None:
    """Raise PairingError if train has no pair, or unpaired no tile of a stain, with the reasons of the bad ones."""
    tiles = table.tiles.get(Split.TRAIN, dict.fromkeys(Stain, 0))
    if empty := [stain for stain in Stain if not tiles[stain]]:
        what = "pair" if paired else f"{' and no '.join(stain.spoken for stain in empty)} tile"
        raise PairingError(
            f"no {what} is left in train: {_listing(table.skipped, paired=paired)}; give tiles that can be read"
            f"{' and paired' if paired else ''}{cut_hint(cut)}{_layout_hint(layout)}"
        )


def refuse_left_out(table: Table, left_out: Sequence[Skipped]) -> None:
    """Raise PairingError if train has no pair because of what settings leave out."""
    excluded = [one for one in left_out if one.split is Split.TRAIN]
    if excluded and Split.TRAIN not in table.pairs:
        raise PairingError(
            f"no pair is left in train: settings leave {len(excluded)} out, for example {excluded[0].id!r} "
            f"({excluded[0].reason}); allow a larger max_shift or a smaller min_confidence, or do not align"
        )


def cut_hint(cut: str) -> str:
    """For pictures that have the wrong shape: how tiles are cut from them."""
    return f"; squares can be cut from pictures of any size and shape: {cut}" if cut else ""


def count_bad(skipped: Sequence[Skipped], *, skip_bad: bool, paired: bool = True) -> str:
    """How many bad pairs or tiles there are, and what a build does with them."""
    if skip_bad:
        return f"{_bad(len(skipped), paired=paired)}, skipped"
    it = "it" if len(skipped) == 1 else "them"
    return f"{_bad(len(skipped), paired=paired)}: build stops at {it}; {SKIP} skips and lists {it}"


def describe_bad(bad: Skipped) -> str:
    """One bad pair with its reason."""
    return f"{bad.split} {bad.id!r}: {bad.reason}"


def _listing(skipped: Sequence[Skipped], *, paired: bool) -> str:
    """The total, then the first of each kind: H&E alone, IHC alone, pairs that cannot be used."""
    kinds = {
        "H&E without IHC": [f"{bad.he!r}" for bad in skipped if not bad.ihc],
        "IHC without H&E": [f"{bad.ihc!r}" for bad in skipped if not bad.he],
        "not usable": [f"{bad.id!r} ({bad.reason})" for bad in skipped if bad.he and bad.ihc],
    }
    if not paired:
        kinds = {"not usable": [f"{bad.id!r} ({bad.reason})" for bad in skipped]}
    listed = [
        f"{len(names)} {kind}: {', '.join(names[:SHOWN])}"
        f"{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}"
        for kind, names in kinds.items()
        if names
    ]
    return f"{_bad(len(skipped), paired=paired)}: {'; '.join(listed)}"


def _bad(count: int, *, paired: bool) -> str:
    word = "pair" if paired else "tile"
    return f"{count} bad {word if count == 1 else f'{word}s'}"


def _layout_hint(layout: Layout) -> str:
    """For pictures that may not be what they were read as: the layout, and how to choose another."""
    if layout is not Layout.SIDE_BY_SIDE:
        return ""
    return (
        "; they were read in layout side-by-side (one picture holds both stains, H&E left, IHC right): if they are "
        f"not, choose mist, bci or folders, for example {how_to_set('layout=folders')}, and name the folder around "
        "both stains, if this one holds a single stain"
    )
