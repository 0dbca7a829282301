"""How far the pairs of a table are apart, in a few numbers."""

from __future__ import annotations

from dataclasses import replace

from store.pairs.shifts import describe_shifts, summarise_shifts
from store.pairs.table import Pair, Registration
from store.schema import Box


def pair(name: str, down: int, right: int, percent: int) -> Pair:
    """A pair with a measured shift."""
    measured = Registration(down=down, right=right, percent=percent)
    return Pair(id=name, slide="s", he="a", ihc="b", he_digest="", ihc_digest="", registration=measured)


def test_doubtful_estimates_are_counted_and_left_out_of_the_numbers() -> None:
    shifts = summarise_shifts(
        [pair("a", 0, 1, 90), pair("b", 3, 4, 50), pair("c", 100, 0, 49), pair("d", -6, -8, 99), pair("e", 0, 0, 100)]
    )
    assert shifts is not None
    assert (shifts.pairs, shifts.doubtful, shifts.sure) == (5, 1, 4)
    assert shifts.median == 3
    assert shifts.one_in_20 == 10
    assert shifts.worst is not None
    assert shifts.worst.id == "d"
    assert shifts.within == {1: 2, 2: 2, 5: 3, 10: 4, 20: 4}
    assert describe_shifts(shifts) == (
        "median 3.0 px, worst 10.0 px (d: -6 down, -8 right); 1 of 5 pairs with a confidence below 0.5"
    )


def test_what_is_left_after_the_ihc_was_moved_is_counted_unless_asked_otherwise() -> None:
    box = Box(top=8, left=8, side=16)
    moved = replace(pair("a", 3, 4, 90), he_box=box, ihc_box=Box(top=11, left=12, side=16))
    still = replace(pair("b", 0, 2, 90), he_box=box, ihc_box=box)
    left, delivered = summarise_shifts([moved, still]), summarise_shifts([moved, still], as_delivered=True)
    assert left is not None
    assert delivered is not None
    assert (left.median, left.moved) == (1.0, 1)
    assert (delivered.median, delivered.moved) == (3.5, 0)
    assert describe_shifts(left).endswith(
        "; 2 pairs; the IHC of 1 was moved by its estimate, and what is left is not measured again"
    )


def test_without_a_trusted_estimate_there_is_no_median() -> None:
    shifts = summarise_shifts([pair("a", 5, 5, 3)])
    assert shifts is not None
    assert shifts.median is None
    assert shifts.worst is None
    assert shifts.one_in_20 is None
    assert describe_shifts(shifts) == "no estimate can be trusted; 1 of 1 pair with a confidence below 0.5"


def test_pairs_that_were_not_measured_have_no_summary() -> None:
    plain = Pair(id="a", slide="s", he="a", ihc="b", he_digest="", ihc_digest="")
    assert summarise_shifts([plain]) is None
    assert summarise_shifts([plain, pair("b", 1, 0, 80)]) == summarise_shifts([pair("b", 1, 0, 80)])
