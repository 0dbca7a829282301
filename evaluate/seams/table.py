"""The seams of settings side by side: for a terminal, and for the page."""

from __future__ import annotations

from collections.abc import Sequence

from evaluate.report.html_tables import HtmlCell, HtmlRow, HtmlTable
from evaluate.report.text_formats import plain_blocks
from evaluate.seams.gathering import Group
from store.cli import WIDTH, wrapped
from store.slides.seams import Ratio, Seams, Worst

HEADS = ("setting", "seams", "vertical", "horizontal", "control", "levels", "worst")
NOTHING = "-"
LEGEND = (
    "seams: mean absolute step across borders of tiles over the mean step one pixel beside them, ± its standard error "
    "over borders; 1.000: no seam. control: the same half a tile away. levels: grey levels by which the step across "
    "is higher; worst: at the border where it is highest, between two tiles (row,column). A ratio near 1 says that no "
    "border is seen, not that the colours are right."
)


def terminal(group: Group, found: Sequence[Seams | None]) -> str:
    """One group as text of at most 100 columns, without a table where no border is measured."""
    facts = wrapped(facts_of(group, found))
    if not any(found):
        return facts
    rows = [
        [entry.setting, *(cell.text for cell in cells_of(seams))]
        for entry, seams in zip(group.entries, found, strict=True)
    ]
    return f"{facts}\n\n{plain_blocks(HEADS, rows, words=1, width=WIDTH)}"


def facts_of(group: Group, found: Sequence[Seams | None]) -> str:
    """What a group has in common, in one sentence."""
    first, grid, seams = group.first, group.first.grid, next((one for one in found if one), None)
    tiles = f"{grid.rows} x {grid.columns} tiles of {grid.side} px"
    white = f", {len(group.skipped)} of them skipped" if group.skipped else ""
    if grid.rows == grid.columns == 1:
        return f"{first.name}: {first.height} x {first.width} px in one tile; a picture of one tile has no borders."
    if seams is None:
        borders = "no border lies between two translated tiles"
    elif seams.every.borders < seams.candidates:
        borders = f"{seams.every.borders:,} of {seams.candidates:,} borders are measured"
    else:
        borders = f"{seams.candidates:,} borders"
    return f"{first.name}: {first.height} x {first.width} px in {tiles}{white}; {borders}."


def html_table(group: Group, found: Sequence[Seams | None]) -> HtmlTable:
    """The same as a table of the page."""
    rows = [
        HtmlRow(cells=[HtmlCell(text=entry.setting, value=entry.setting), *cells_of(seams)])
        for entry, seams in zip(group.entries, found, strict=True)
    ]
    return HtmlTable(heads=[*HEADS], rows=rows)


def origins(group: Group) -> HtmlTable:
    """File, generator and picture of each setting."""
    return HtmlTable(
        heads=["setting", "file", "method", "generator", "picture"],
        words=5,
        sortable=False,
        rows=[
            HtmlRow(
                cells=[
                    HtmlCell(text=text)
                    for text in (
                        entry.setting,
                        str(entry.output),
                        entry.record.method,
                        entry.record.generator,
                        entry.record.source,
                    )
                ]
            )
            for entry in group.entries
        ],
    )


def cells_of(seams: Seams | None) -> list[HtmlCell]:
    """A row without its first cell."""
    if seams is None:
        return [HtmlCell(text=NOTHING)] * (len(HEADS) - 1)
    ratios = (seams.every, seams.vertical, seams.horizontal, seams.control)
    levels = HtmlCell(text=f"{seams.every.excess:+.2f}", value=f"{seams.every.excess}")
    return [*map(_ratio, ratios), levels, _worst(seams.worst)]


def _ratio(ratio: Ratio) -> HtmlCell:
    if ratio.value is None:
        return HtmlCell(text="flat" if ratio.borders else NOTHING)
    return HtmlCell(text=str(ratio), value=f"{ratio.value}")


def _worst(worst: Worst) -> HtmlCell:
    first, second = (f"{row},{column}" for row, column in (worst.first, worst.second))
    return HtmlCell(text=f"{worst.excess:+.2f} at {first}|{second}", value=f"{worst.excess}")
