"""The tables of the page, cell by cell: numbers that sort by value, and the origin of every number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite

from evaluate.columns import COLUMNS, NOTHING, Agreement, Cell, Column
from evaluate.metrics.statistics import COSTLY_RESAMPLES, LEVEL, RESAMPLES, SEED, SIGN_PATTERNS
from evaluate.protocol import Network, ProtocolName
from evaluate.report.captions import length
from evaluate.report.paired_tests import compare
from evaluate.report.tables import (
    HEADS,
    PRINTED,
    TEST_HEADS,
    Line,
    agreement_columns,
    best_cells,
    columns_with_numbers,
    is_best,
    named_rows,
)
from evaluate.scores_file import Scores

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlCell:
    """A cell: its text, the value that it sorts by, a small text below, and a hint that a mouse shows."""

    text: str
    value: str = ""
    small: str = ""
    hint: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlRow:
    """A row of cells; `paper` marks the paper's own rows."""

    cells: list[HtmlCell]
    paper: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlTable:
    """A table of the page; its first `words` columns hold words, not numbers."""

    heads: list[str]
    rows: list[HtmlRow]
    words: int = 1
    sortable: bool = True


def metric_table(lines: Sequence[Line]) -> HtmlTable:
    """Both protocols and the baselines, with intervals; columns without a number are not shown."""
    best, keys = best_cells(lines), columns_with_numbers(lines)
    return HtmlTable(
        heads=[*HEADS, *(COLUMNS[key].arrow_head for key in keys)],
        words=3,
        rows=[
            HtmlRow(
                paper=line.protocol == PRINTED,
                cells=[HtmlCell(text=text, value=_sorted_by(text)) for text in line.heads]
                + [number_cell(line.cell(key), COLUMNS[key], line.mark(key), is_best(line, key, best))
                   for key in keys],
            )
            for line in lines
        ],
    )  # fmt: skip


def agreement_table(runs: Sequence[Scores]) -> HtmlTable:
    """Agreement on DAB by zoom; columns without a number are not shown."""
    keys: list[Agreement] = agreement_columns(runs)
    return HtmlTable(
        heads=["row", "zoom", *(COLUMNS[key].arrow_head for key in keys)],
        words=2,
        rows=[
            HtmlRow(cells=[*_words(name, zoom), *(number_cell(cells[key], COLUMNS[key]) for key in keys)])
            for name, row in named_rows(runs).items()
            for zoom, cells in row.agreement.items()
        ],
    )


def tested_table(runs: Sequence[Scores]) -> HtmlTable:
    """Paired tests between all runs."""
    p = Column(head="p", digits=4, higher=False, metric="p")
    rows = []
    for found in compare(runs):
        cell = Cell(value=found.difference, low=found.within.low, high=found.within.high, note=found.within.absent)
        chances = [number_cell(Cell(value=value), p) for value in (found.probability, found.corrected)]
        words = _words(found.first, found.second, found.head)
        rows.append(HtmlRow(cells=[*words, number_cell(cell, COLUMNS[found.metric]), *chances]))
    return HtmlTable(heads=list(TEST_HEADS), words=3, rows=rows)


def shift_table(runs: Sequence[Scores]) -> HtmlTable:
    """The numbers of the misregistration curves."""
    first = runs[0].misregistration
    curves = {"the real picture itself": first.perfect} | {scores.run: scores.misregistration.fake for scores in runs}
    return HtmlTable(
        heads=["picture", "metric", *(f"{shift} px" for shift in first.shifts)],
        words=2,
        rows=[
            HtmlRow(
                cells=_words(name, COLUMNS[metric].arrow_head)
                + [number_cell(Cell(value=value), COLUMNS[metric]) for value in values]
            )
            for name, found in curves.items()
            for metric, values in found.items()
        ],
    )


def protocol_table(runs: Sequence[Scores]) -> HtmlTable:
    """Every choice of both protocols, as the scores record them."""
    choices = {name: asdict(protocol) for name, protocol in runs[0].protocols.items()}
    return HtmlTable(
        heads=["choice", *choices],
        sortable=False,
        rows=[
            HtmlRow(
                cells=[HtmlCell(text=key), *(HtmlCell(text=str(one[key]), kind="long") for one in choices.values())]
            )
            for key in choices[ProtocolName.PUBLISHED]
        ],
    )


def provenance_table(runs: Sequence[Scores]) -> HtmlTable:
    """What each run's numbers were made from."""
    facts: list[tuple[str, list[str]]] = [
        ("method, training", [f"{scores.method}, {length(scores)}" for scores in runs]),
        ("trained on views", [", ".join(scores.views) if scores.views else UNKNOWN for scores in runs]),
        ("generator, sha256", [scores.generator or UNKNOWN for scores in runs]),
        ("pictures", [scores.source or "the run's predictions" for scores in runs]),
        ("store, seal", [f"{scores.store}, {scores.seal}" for scores in runs]),
        ("split, view, pictures, slides", [f"{s.split}, {s.view}, {len(s.pictures)}, {s.slides}" for s in runs]),
        ("8-bit round trip", [scores.round_trip for scores in runs]),
        ("baselines", [f"fitted on {s.baselines_pictures} train pictures, {s.baselines_view} view" for s in runs]),
        *((f"pictures, {name}, sha256", [scores.sets.get(name, "") for scores in runs]) for name in runs[0].sets),
        *((f"{net}, sha256", [scores.networks.get(net) or "weights missing" for scores in runs]) for net in Network),
        ("software", [", ".join(f"{name} {number}" for name, number in s.software.items()) for s in runs]),
        ("uncertainty", [_uncertainty()] * len(runs)),
    ]
    return HtmlTable(
        heads=["fact", *(scores.run for scores in runs)],
        sortable=False,
        rows=[
            HtmlRow(cells=[HtmlCell(text=name), *(HtmlCell(text=text, kind="long") for text in texts)])
            for name, texts in facts
        ],
    )


def number_cell(cell: Cell, column: Column, mark: str = "", best: bool = False) -> HtmlCell:
    """A number, its interval below it, its note as a hint."""
    around = f" ± {cell.spread:.{column.digits}f}" if isfinite(cell.spread) else ""
    within = f"{column.show(cell.low)} to {column.show(cell.high)}" if isfinite(cell.low) else ""
    return HtmlCell(
        text=f"{column.show(cell.value)}{around}{mark}",
        value=repr(cell.value),
        small=within,
        hint=cell.note,
        kind="missing" if cell.missing else "best" if best else "",
    )


def _uncertainty() -> str:
    return (
        f"{LEVEL:.0%} percentile intervals over {RESAMPLES} bootstrap samples of the slides ({COSTLY_RESAMPLES} for "
        f"FID, KID and correlations; FID's is centred on the number); tests with {SIGN_PATTERNS} sign patterns; "
        f"seed {SEED}"
    )


def _words(*texts: str) -> list[HtmlCell]:
    return [HtmlCell(text=text, value=text) for text in texts]


def _sorted_by(text: str) -> str:
    """What a cell of HEADS sorts by: a number without its commas, nothing for a dash."""
    return "" if text == NOTHING else text.replace(",", "") if text.replace(",", "").isdecimal() else text
