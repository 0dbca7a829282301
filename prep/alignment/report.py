"""Measured shifts as a summary, as Markdown, as plain values for JSON, and as a table of pairs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from itertools import pairwise
from typing import Any

from prep.alignment.measured import WORST, Alignment, Measured
from prep.build.bad_pairs import describe_bad
from prep.registration.matching import describe_rules
from store.cli import wrapped
from store.pairs.shifts import STEPS, SURE, Shifts, describe_shifts
from store.process import installed_versions
from store.untrusted.text import markdown_word

FORMAT = 1
SOFTWARE = ("magstain", "numpy", "opencv-python", "scikit-image", "scipy")  # what the estimates depend on
SLIDES_SHOWN = 20  # of the summary's table; the JSON has all
BAR = 40  # columns of the longest bar of the histogram
SYNTHETIC = ("**SYNTHETIC, drawn and not tissue.**", "")
COLUMNS = ("pairs", "uncertain", "median, px", "one in 20, px", "worst, px", *(f"within {step} px" for step in STEPS))
MEANING = f"""\
A shift is where the IHC picture shows what the H&E picture shows, in whole px of the pictures. It is estimated by
phase correlation of what both stains show, with a confidence from 0 to 1: how probable it is that the estimate is
right. Estimates below {SURE:g} are counted as uncertain and are in no other number. Only shifts are found, up to a
quarter of the side: no rotation, no deformation; serial sections never match cell by cell."""


def describe(found: Alignment) -> str:
    """The numbers of all pairs and of each split, in lines of at most 100 columns."""
    lines = [
        f"{found.name}: {found.read_as}",
        f"  {describe_shifts(found.shifts)}",
        f"  {describe_rules(found.shifts)}",
    ]
    if len(splits := found.by_split()) > 1:
        lines += [f"  {split}: {describe_shifts(shifts)}" for split, shifts in splits.items()]
    if found.bad:
        lines.append(f"  {len(found.bad)} not measured, the first: {describe_bad(found.bad[0])}")
    return "\n".join(wrapped(line, indent="    ") for line in lines)


def markdown(found: Alignment) -> str:
    """The report with the meaning of its numbers."""
    slides = found.by_slide()
    more = [f"and {len(slides) - SLIDES_SHOWN} more, in registration.json", ""] if len(slides) > SLIDES_SHOWN else []
    lines = [f"# Registration of {markdown_word(found.name)}", "", *SYNTHETIC[: 2 * found.synthetic]]
    lines += [MEANING, "", f"- read as: {found.read_as}"]
    lines += [f"- {describe_shifts(found.shifts)}", f"- {describe_rules(found.shifts)}"]
    lines += [f"- not measured: {markdown_word(describe_bad(bad))}" for bad in found.bad]
    lines += ["", *_table(("", *COLUMNS), ([name, *_cells(s)] for name, s in _groups(found).items())), ""]
    lines += ["## Distances of the certain estimates", "", *_histogram(found.shifts), ""]
    lines += ["## By slide, the largest median first", ""]
    lines += [*_table(("slide", *COLUMNS), ([n, *_cells(s)] for n, s in [*slides.items()][:SLIDES_SHOWN])), "", *more]
    lines += ["## Worst pairs, shown in worst.png", "", *_named(found.worst()), ""]
    if uncertain := found.uncertain():
        lines += [f"## Least certain pairs, {len(uncertain)} in all", "", *_named(uncertain[:WORST]), ""]
    return "\n".join(lines)


def tree(found: Alignment) -> dict[str, Any]:
    """Everything as plain values for JSON."""
    return {
        "format": FORMAT,
        "name": found.name,
        "synthetic": found.synthetic,
        "read_as": found.read_as,
        "software": installed_versions(SOFTWARE),
        "certain_from": SURE,
        "all": _numbers(found.shifts),
        "splits": {name: _numbers(shifts) for name, shifts in found.by_split().items()},
        "slides": {name: _numbers(shifts) for name, shifts in found.by_slide().items()},
        "worst": [tile.pair.id for tile in found.worst()],
        "not_measured": [{"split": bad.split, "id": bad.id, "reason": bad.reason} for bad in found.bad],
        "pairs": [_facts(tile) for tile in found.tiles],
    }


def pairs_csv(found: Alignment) -> str:
    """A row for each tile with its sources, slide, split and shift; whole pictures can be given to --pairs-from."""
    text = StringIO()
    rows = [_facts(tile) for tile in found.tiles]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _facts(tile: Measured) -> dict[str, Any]:
    pair, estimate, box = tile.pair, tile.registration, tile.pair.he_box
    place = {"top": box.top, "left": box.left, "side": box.side} if box else {}
    return {
        "id": pair.id,
        "he": pair.he,
        "ihc": pair.ihc,
        "slide": pair.slide,
        "split": str(tile.split),
        **place,
        "down": estimate.down,
        "right": estimate.right,
        "confidence": estimate.confidence,
    }


def _numbers(shifts: Shifts) -> dict[str, Any]:
    return {
        "pairs": shifts.pairs,
        "uncertain": shifts.doubtful,
        "median_px": shifts.median,
        "one_in_20_px": shifts.one_in_20,
        "worst_px": shifts.worst.registration.distance if shifts.worst else None,
        "worst": shifts.worst.id if shifts.worst else None,
        "within_px": {str(step): count for step, count in shifts.within.items()},
    }


def _groups(found: Alignment) -> dict[str, Shifts]:
    splits = found.by_split()
    return {"all": found.shifts} | (splits if len(splits) > 1 else {})


def _cells(shifts: Shifts) -> list[str]:
    worst = shifts.worst.registration.distance if shifts.worst else None
    lengths = ["-" if length is None else f"{length:.1f}" for length in (shifts.median, shifts.one_in_20, worst)]
    shares = [f"{count / shifts.sure:.0%}" if shifts.sure else "-" for count in shifts.within.values()]
    return [str(shifts.pairs), str(shifts.doubtful), *lengths, *shares]


def _histogram(shifts: Shifts) -> list[str]:
    """Bars of text for the distances between the steps."""
    within = [0, *shifts.within.values(), shifts.sure]
    counts = [after - before for before, after in pairwise(within)]
    names = [*(f"{low} to {high} px" for low, high in pairwise((0, *STEPS))), f"over {STEPS[-1]} px"]
    scale = BAR / max(*counts, 1)
    bars = [f"{name:>12} {count:>7} {'#' * round(scale * count)}" for name, count in zip(names, counts, strict=True)]
    return ["```", *(bar.rstrip() for bar in bars), "```"]


def _named(tiles: Sequence[Measured]) -> list[str]:
    rows = (
        [
            tile.pair.id,
            tile.split,
            tile.pair.slide,
            f"{tile.registration.distance:.1f}",
            f"{tile.registration.down:+d}",
            f"{tile.registration.right:+d}",
            f"{tile.registration.confidence:.2f}",
        ]
        for tile in tiles
    )
    return _table(("pair", "split", "slide", "distance, px", "down, px", "right, px", "confidence"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [[markdown_word(str(cell)).replace("|", "/") for cell in row] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *lines)]
