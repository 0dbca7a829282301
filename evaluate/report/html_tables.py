"""The tables of the page, cell by cell: numbers that sort by themselves, the origin of every number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite

from evaluate.columns import COLUMNS, MISSING, NOTHING, Agreement, Cell, Column, Metric
from evaluate.metrics.statistics import COSTLY_RESAMPLES, LEVEL, RESAMPLES, SEED, TURNS
from evaluate.protocol import PROTOCOLS, Network, ProtocolName
from evaluate.report.captions import length
from evaluate.report.paired_tests import compare
from evaluate.report.paper_tables import PaperTable
from evaluate.report.tables import HEADS, PRINTED, Line, best_cells, is_best, named_rows, table_lines
from evaluate.scores_file import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A cell: what it shows, what it sorts by, what stands below and what appears over it."""

    text: str
    value: str = ""
    small: str = ""
    hint: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A row of cells; `paper` sets the paper's own rows apart."""

    boxes: list[Box]
    paper: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the page; its first `words` columns hold words, not numbers."""

    heads: list[str]
    rows: list[TableRow]
    words: int = 1
    sortable: bool = True


def metric_table(runs: Sequence[Scores], paper: PaperTable) -> Table:
    """Both protocols and the floors, with intervals."""
    lines = table_lines(runs, paper)
    best = best_cells(lines)
    return Table(
        heads=[*HEADS, *(column.head for column in COLUMNS.values())],
        words=3,
        rows=[
            TableRow(
                paper=line.protocol == PRINTED,
                boxes=[Box(text=text, value=_plain(text)) for text in line.heads]
                + [number_box(line.cell(key), column, _mark(line, key), is_best(line, key, best))
                   for key, column in COLUMNS.items()],
            )
            for line in lines
        ],
    )  # fmt: skip


def agreement_table(runs: Sequence[Scores]) -> Table:
    """Agreement on DAB by zoom."""
    return Table(
        heads=["row", "zoom", *(COLUMNS[key].head for key in Agreement)],
        words=2,
        rows=[
            TableRow(
                boxes=[Box(text=name, value=name), Box(text=zoom, value=zoom)]
                + [number_box(cells[key], COLUMNS[key]) for key in Agreement]
            )
            for name, row in named_rows(runs).items()
            for zoom, cells in row.agreement.items()
        ],
    )


def tested_table(runs: Sequence[Scores]) -> Table:
    """Paired tests between all runs."""
    rows = []
    for found in compare(runs):
        cell = Cell(value=found.difference, low=found.within.low, high=found.within.high, note=found.within.absent)
        chances = Column(head="p", digits=4, higher=False)
        words = [Box(text=text, value=text) for text in (found.first, found.second, found.head)]
        numbers = [number_box(Cell(value=value), chances) for value in (found.probability, found.corrected)]
        rows.append(TableRow(boxes=[*words, number_box(cell, COLUMNS[found.metric]), *numbers]))
    return Table(heads=["first", "second", "metric", "first - second", "p", "p (Holm)"], words=3, rows=rows)


def shift_table(runs: Sequence[Scores]) -> Table:
    """The numbers of the misregistration curves."""
    first = runs[0].misregistration
    curves = {"the real picture itself": first.perfect} | {scores.run: scores.misregistration.fake for scores in runs}
    return Table(
        heads=["of", "metric", *(f"{shift} px" for shift in first.shifts)],
        words=2,
        rows=[
            TableRow(
                boxes=[Box(text=name, value=name), Box(text=COLUMNS[metric].head, value=COLUMNS[metric].head)]
                + [number_box(Cell(value=value), COLUMNS[metric]) for value in values]
            )
            for name, found in curves.items()
            for metric, values in found.items()
        ],
    )


def protocol_table() -> Table:
    """Every choice of both protocols."""
    choices = {name: asdict(protocol) for name, protocol in PROTOCOLS.items()}
    return Table(
        heads=["choice", *choices],
        sortable=False,
        rows=[
            TableRow(boxes=[Box(text=key), *(Box(text=str(one[key]), kind="long") for one in choices.values())])
            for key in choices[ProtocolName.PUBLISHED]
        ],
    )


def provenance_table(runs: Sequence[Scores]) -> Table:
    """What each run's numbers were made from."""
    facts: list[tuple[str, list[str]]] = [
        ("method, training", [f"{scores.method}, {length(scores)}" for scores in runs]),
        ("trained on views", [", ".join(scores.views) or "not known" for scores in runs]),
        ("generator, sha256", [scores.generator or "not known" for scores in runs]),
        ("pictures", [scores.source or "the run's predictions" for scores in runs]),
        ("store, seal", [f"{scores.store}, {scores.seal}" for scores in runs]),
        ("split, view, pictures, slides", [f"{s.split}, {s.view}, {len(s.pictures)}, {s.slides}" for s in runs]),
        ("round trip of 8 bits", [scores.round_trip for scores in runs]),
        ("floors", [f"fitted on {s.floors_pictures} train pictures, view {s.floors_view}" for s in runs]),
        *((f"pictures, {name}", [scores.sets.get(name, "") for scores in runs]) for name in runs[0].sets),
        *((f"{net}, sha256", [scores.networks.get(net) or "weights missing" for scores in runs]) for net in Network),
        ("software", [", ".join(f"{name} {number}" for name, number in s.software.items()) for s in runs]),
        (
            "certainty",
            [
                f"{LEVEL:.0%} percentile intervals of {RESAMPLES} draws of the slides ({COSTLY_RESAMPLES} for FID, KID "
                f"and correlations; FID's is centred on the number), tests with {TURNS} sign patterns, seed {SEED}"
            ]
            * len(runs),
        ),
    ]
    return Table(
        heads=["of", *(scores.run for scores in runs)],
        sortable=False,
        rows=[
            TableRow(boxes=[Box(text=name), *(Box(text=text, kind="long") for text in texts)]) for name, texts in facts
        ],
    )


def number_box(cell: Cell, column: Column, mark: str = "", best: bool = False) -> Box:
    """A number, its interval below it, its note over it."""
    if cell.missing:
        return Box(text=MISSING, value="nan", kind="missing")
    around = f" ± {cell.spread:.{column.digits}f}" if isfinite(cell.spread) else ""
    within = f"{column.show(cell.low)} to {column.show(cell.high)}" if isfinite(cell.low) else ""
    return Box(
        text=f"{column.show(cell.value)}{around}{mark}",
        value=repr(cell.value),
        small=within,
        hint=cell.note,
        kind="best" if best else "",
    )


def _mark(line: Line, key: Metric | Agreement) -> str:
    return f" ({line.marks[key]})" if key in line.marks else ""


def _plain(text: str) -> str:
    """What a head sorts by: thousands without their commas, nothing for a dash."""
    return "" if text == NOTHING else text.replace(",", "") if text.replace(",", "").isdecimal() else text
