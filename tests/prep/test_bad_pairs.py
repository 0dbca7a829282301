"""Messages about bad pairs: how many, which, what to do."""

from __future__ import annotations

import pytest

from prep.build.bad_pairs import count_bad, refuse_bad, refuse_empty
from prep.settings import Layout
from store.pairs.table import Pair, Skipped, Table
from store.schema import PairingError, Split

PAIR = Pair(id="a", slide="s", he="a.png", ihc="a.png", he_digest="00", ihc_digest="00")


def bad(number: int) -> Skipped:
    name = f"{number}.png"
    return Skipped(id=str(number), split=Split.TRAIN, he=name, ihc=name, reason="is 32 x 32 px")


def test_one_and_several_are_counted_with_what_happens_to_them() -> None:
    assert count_bad([bad(0)], skip_bad=False) == (
        "1 bad pair: build stops at it; --skip-bad (make: SKIP_BAD=1) skips and lists it"
    )
    assert count_bad([bad(0), bad(1)], skip_bad=False) == (
        "2 bad pairs: build stops at them; --skip-bad (make: SKIP_BAD=1) skips and lists them"
    )
    assert count_bad([bad(0)], skip_bad=True) == "1 bad pair, skipped"


def test_an_error_lists_five_and_counts_the_others() -> None:
    with pytest.raises(PairingError) as caught:
        refuse_bad([bad(number) for number in range(7)], Layout.MIST)
    listed = ", ".join(f"'{number}' (is 32 x 32 px)" for number in range(5))
    assert str(caught.value) == (
        f"7 bad pairs: 7 not usable: {listed} and 2 more; correct them, or skip them with --skip-bad (make: SKIP_BAD=1)"
    )


def test_side_by_side_pictures_may_have_been_read_in_the_wrong_layout() -> None:
    hint = (
        r"read in layout side-by-side \(one picture holds both stains, H&E left, IHC right\): if they are not, choose "
        r"mist, bci or folders, for example --set layout=folders \(make: SET=layout=folders\), and name the folder "
        r"around both stains, if this one holds a single stain$"
    )
    with pytest.raises(PairingError, match=hint):
        refuse_bad([bad(0)], Layout.SIDE_BY_SIDE)
    with pytest.raises(PairingError, match=hint):
        refuse_empty(Table(pairs={}, skipped=(bad(0),)), Layout.SIDE_BY_SIDE)


def test_nothing_is_refused_without_a_reason() -> None:
    refuse_bad([], Layout.SIDE_BY_SIDE)
    refuse_empty(Table(pairs={Split.TRAIN: (PAIR,)}, skipped=(bad(0),)), Layout.MIST)
    with pytest.raises(PairingError, match="no pair is left in train: 1 bad pair: 1 not usable"):
        refuse_empty(Table(pairs={Split.TEST: (PAIR,)}, skipped=(bad(0),)), Layout.MIST)
