"""Seams on a page that needs no network: the table, details at the same borders, what each picture was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluate.report.html_images import PictureGrid
from evaluate.report.html_tables import HtmlTable
from evaluate.report.templates import open_template
from evaluate.seams.crops import SHOWN, choose_borders, show_borders
from evaluate.seams.gathering import Group
from evaluate.seams.table import LEGEND, facts_of, html_table, origins
from store.files import disk_errors, write_whole
from store.slides.seams import Seams

TEMPLATE = "seams.html"
CROPS_NOTE = (
    f"Pixel by pixel, at most {SHOWN} borders: the worst of each setting first, then others, spread evenly. Black "
    "ticks at two edges show where the border is."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One picture on the page; `table` and `crops` are None where it has no border."""

    name: str
    facts: str
    table: HtmlTable | None
    crops: PictureGrid | None
    origins: HtmlTable


def write_page(groups: Sequence[Group], found: Sequence[Sequence[Seams | None]], file: Path) -> Path:
    """Write the page of groups and their seams, completely or not at all."""
    text = open_template(TEMPLATE).render(
        title="Seams between tiles",
        about=LEGEND,
        groups=[_section(group, seams) for group, seams in zip(groups, found, strict=True)],
        crops_note=CROPS_NOTE,
    )
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode())
    return file


def _section(group: Group, found: Sequence[Seams | None]) -> Section:
    borders = choose_borders(group, found)
    return Section(
        name=group.first.name,
        facts=facts_of(group, found),
        table=html_table(group, found) if any(found) else None,
        crops=show_borders(group, borders) if borders else None,
        origins=origins(group),
    )
