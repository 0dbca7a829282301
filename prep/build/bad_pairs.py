"""Messages about bad pairs: how many, which, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from prep.settings import Layout, how_to_set
from store.pairs.table import Skipped, Table
from store.schema import PairingError, Split

SKIP = "--skip-bad (make: SKIP_BAD=1)"
SHOWN = 5  # of each kind in an error, which is one line


def refuse_bad(skipped: Sequence[Skipped], layout: Layout, cut: str = "", names: str = "") -> None:
    """Raise PairingError if there is a bad pair: how many of which kind, the first names with reasons, what to do.

    `cut` says how squares are cut from pictures that have the wrong shape, and `names` which settings would pair more
    names, if there are such.
    """
    if skipped:
        way = f"{names}; or correct them" if names else "correct them"
        raise PairingError(f"{_listing(skipped)}; {way}, or skip them with {SKIP}{cut_hint(cut)}{_layout_hint(layout)}")


def refuse_empty(table: Table, layout: Layout, cut: str = "") -> None:
    """Raise PairingError if train has no pair, with the reasons of the bad ones."""
    if Split.TRAIN not in table.pairs:
        raise PairingError(
            f"no pair is left in train: {_listing(table.skipped)}; give tiles that can be read and paired"
            f"{cut_hint(cut)}{_layout_hint(layout)}"
        )


def cut_hint(cut: str) -> str:
    """For pictures that have the wrong shape: how tiles are cut from them."""
    return f"; squares can be cut from pictures of any size and shape: {cut}" if cut else ""


def count_bad(skipped: Sequence[Skipped], *, skip_bad: bool) -> str:
    """How many bad pairs there are, and what a build does with them."""
    if skip_bad:
        return f"{_bad_pairs(len(skipped))}, skipped"
    it = "it" if len(skipped) == 1 else "them"
    return f"{_bad_pairs(len(skipped))}: build stops at {it}; {SKIP} skips and lists {it}"


def describe_bad(bad: Skipped) -> str:
    """One bad pair with its reason."""
    return f"{bad.split} {bad.id!r}: {bad.reason}"


def _listing(skipped: Sequence[Skipped]) -> str:
    """The total, then the first of each kind: H&E alone, IHC alone, pairs that cannot be used."""
    kinds = {
        "H&E without IHC": [f"{bad.he!r}" for bad in skipped if not bad.ihc],
        "IHC without H&E": [f"{bad.ihc!r}" for bad in skipped if not bad.he],
        "not usable": [f"{bad.id!r} ({bad.reason})" for bad in skipped if bad.he and bad.ihc],
    }
    listed = [
        f"{len(names)} {kind}: {', '.join(names[:SHOWN])}"
        f"{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}"
        for kind, names in kinds.items()
        if names
    ]
    return f"{_bad_pairs(len(skipped))}: {'; '.join(listed)}"


def _bad_pairs(count: int) -> str:
    return f"{count} bad {'pair' if count == 1 else 'pairs'}"


def _layout_hint(layout: Layout) -> str:
    """For pictures that may not be what they were read as: the layout, and how to choose another."""
    if layout is not Layout.SIDE_BY_SIDE:
        return ""
    return (
        "; they were read in layout side-by-side (one picture holds both stains, H&E left, IHC right): if they are "
        f"not, choose mist, bci or folders, for example {how_to_set('layout=folders')}"
    )
