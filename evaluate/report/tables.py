"""Scores to the tables that a person or a program reads: Markdown, CSV, LaTeX.

The floors come first, then the runs, each under both protocols and with the paper's row of the same name below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

from evaluate.columns import COLUMNS, NOTHING, Agreement, Cell, Metric
from evaluate.protocol import FAKE, ProtocolName
from evaluate.report.captions import caption, notes
from evaluate.report.paired_tests import compare
from evaluate.report.paper_tables import PaperRow, PaperTable, paper_row, paper_rows, slips
from evaluate.report.text_formats import csv_table, latex_table, markdown_table
from evaluate.scores_file import WHOLE, Row, Scores
from store.files import disk_errors, write_whole
from store.schema import RunError

PRINTED = "as printed"  # the protocol of the paper's own rows
ZOOM_CAPTION = (
    "Agreement on DAB by zoom, under `corrected`: of whole pictures (x1), their quarters (x2) and sixteenths (x4)."
)
TEST_CAPTION = (
    "Paired tests under `corrected`: the signs of all differences of a slide turned together, then p after Holm over "
    "all tests."
)
Key = Metric | Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of the table before it is laid out; floors have no method, draws, upscaler, the paper's rows no count."""

    name: str
    protocol: str
    method: str = ""
    draws: int = 0
    upscaler: str = ""
    count: int = 0
    cells: dict[Key, Cell] = field(default_factory=dict)
    marks: dict[Key, str] = field(default_factory=dict)

    @property
    def heads(self) -> list[str]:
        """What stands before the numbers."""
        draws, count = f"{self.draws:,}" if self.draws else NOTHING, str(self.count) if self.count else NOTHING
        return [self.name, self.protocol, self.method or NOTHING, draws, self.upscaler or NOTHING, count]

    def cell(self, key: Key) -> Cell:
        """A number; an empty cell where this row has none."""
        return self.cells.get(key, Cell())


HEADS = ("row", "protocol", "method", "draws", "upscaler", "N")


def table_lines(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> list[Line]:
    """The floors, then the runs; RunError unless all runs were judged on the same pictures in the same way."""
    first = runs[0]
    for scores in runs:
        if _ground(scores) != _ground(first):
            raise RunError(
                f"runs {first.run!r} and {scores.run!r} were not judged on the same pictures "
                f"({', '.join(_ground(first))} and {', '.join(_ground(scores))}); make a table for each"
            )
    names = [scores.run for scores in runs]
    if len(set(names)) < len(names):
        raise RunError(
            f"the runs {', '.join(names)} cannot be told apart in a table; give each run once, under its own name"
        )
    lines = [
        Line(name=name, protocol=ProtocolName.CORRECTED, count=len(first.pictures), cells=_cells(row))
        for name, row in first.rows[ProtocolName.CORRECTED].items()
        if name != FAKE
    ]
    below = []
    for scores in runs:
        lines += [_line(scores, protocol) for protocol in ProtocolName]
        if row := paper_row(paper, scores.method, scores.views):
            lines.append(_paper_line(row, paper))
            below.append(row.name)
    return lines + [_paper_line(row, paper) for row in paper_rows(paper) if row.name not in below]


def best_cells(lines: Sequence[Line]) -> dict[tuple[str, Key], str]:
    """The best number of each column as it is printed, by protocol; the paper's rows stand apart."""
    return {
        (protocol, key): column.best([line.cell(key).value for line in lines if line.protocol == protocol])
        for protocol in ProtocolName
        for key, column in COLUMNS.items()
    }


def is_best(line: Line, key: Key, best: dict[tuple[str, Key], str]) -> bool:
    """Whether a number looks as good as the best of its column and protocol."""
    shown = COLUMNS[key].show(line.cell(key).value)
    return shown != NOTHING and shown == best.get((line.protocol, key))


def markdown(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> str:
    """All tables in Markdown under their caption: metrics, agreement by zoom, paired tests, notes."""
    parts = [
        caption(runs),
        markdown_table(*metric_rows(table_lines(runs, paper))),
        ZOOM_CAPTION,
        markdown_table(*agreement_rows(runs)),
    ]
    if len(runs) > 1:
        parts += [TEST_CAPTION, markdown_table(*tested_rows(runs))]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes(runs, paper))]) + "\n"


def latex(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> str:
    """The table of metrics for a paper: `booktabs`, the number alone in each cell, the best in bold."""
    lines = table_lines(runs, paper)
    best, rows = best_cells(lines), []
    for line in lines:
        shown = [(column.show(line.cell(key).value), is_best(line, key, best)) for key, column in COLUMNS.items()]
        rows.append([(line.name, False), (line.protocol, False), *shown])
    return latex_table(["row", "protocol", *(column.head for column in COLUMNS.values())], rows, caption(runs))


def csv_text(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> str:
    """The table for programs: full precision, both ends of each interval, undefined numbers empty, on what data."""
    first = runs[0]
    numbers = [f"{column.head}{end}" for column in COLUMNS.values() for end in ("", " low", " high")]
    rows = []
    for line in table_lines(runs, paper):
        cells = [line.cell(key) for key in COLUMNS]
        values = [number for cell in cells for number in (cell.value, cell.low, cell.high)]
        ground = [first.slides, first.store, first.stain, first.split, first.view, str(first.synthetic).lower()]
        rows.append(
            [line.name, line.protocol, line.method, line.draws or "", line.upscaler, line.count or ""]
            + ["" if isnan(value) else repr(value) for value in values]
            + ground
        )
    return csv_table([*HEADS, *numbers, "slides", "store", "stain", "split", "view", "synthetic"], rows)


def write_table(runs: Sequence[Scores], folder: Path, paper: PaperTable = PaperTable.NONE) -> list[Path]:
    """Write `table.md`, `table.csv` and `table.tex`, each whole or not at all."""
    texts = {
        "table.md": markdown(runs, paper),
        "table.csv": csv_text(runs, paper),
        "table.tex": latex(runs, paper),
    }
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(folder / name, text.encode())
    return [folder / name for name in texts]


def metric_rows(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of metrics, the best in bold."""
    best, rows = best_cells(lines), []
    for line in lines:
        cells = []
        for key, column in COLUMNS.items():
            text = line.cell(key).show(column) + (f" ({line.marks[key]})" if key in line.marks else "")
            cells.append(f"**{text}**" if is_best(line, key, best) else text)
        rows.append([*line.heads, *cells])
    return [*HEADS, *(column.head for column in COLUMNS.values())], rows


def agreement_rows(runs: Sequence[Scores]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the agreement on DAB by zoom, under `corrected`."""
    rows = [
        [name, zoom, *(cells[key].show(COLUMNS[key]) for key in Agreement)]
        for name, row in named_rows(runs).items()
        for zoom, cells in row.agreement.items()
    ]
    return ["row", "zoom", *(COLUMNS[key].head for key in Agreement)], rows


def named_rows(runs: Sequence[Scores]) -> dict[str, Row]:
    """The rows of `corrected` by the names that they have in a table: the floors, then the runs."""
    floors = {name: row for name, row in runs[0].rows[ProtocolName.CORRECTED].items() if name != FAKE}
    return floors | {scores.run: scores.row(ProtocolName.CORRECTED) for scores in runs}


def tested_rows(runs: Sequence[Scores]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the paired tests."""
    rows = []
    for found in compare(runs):
        column = COLUMNS[found.metric]
        cell = Cell(value=found.difference, low=found.within.low, high=found.within.high)
        chances = [NOTHING if isnan(value) else f"{value:.4f}" for value in (found.probability, found.corrected)]
        rows.append([found.first, found.second, found.head, cell.show(column), *chances])
    return ["first", "second", "metric", "first - second", "p", "p (Holm)"], rows


def _cells(row: Row) -> dict[Key, Cell]:
    pairs: list[tuple[Key, Cell]] = [*row.cells.items(), *row.agreement.get(WHOLE, {}).items()]
    return dict(pairs)


def _line(scores: Scores, protocol: ProtocolName) -> Line:
    return Line(
        name=scores.run,
        protocol=protocol,
        method=scores.method,
        draws=scores.draws,
        upscaler=scores.upscaler,
        count=len(scores.pictures),
        cells=_cells(scores.row(protocol)),
    )


def _paper_line(row: PaperRow, table: PaperTable) -> Line:
    marked = [mark for mark, slip in slips(table).items() if slip == row.slip]
    marks: dict[Key, str] = dict.fromkeys((Metric.PHV,), marked[0]) if marked else {}
    cells: dict[Key, Cell] = {metric: Cell(value=value) for metric, value in row.values.items()}
    return Line(name=f"paper: {row.name}", protocol=PRINTED, cells=cells, marks=marks)


def _ground(scores: Scores) -> tuple[str, ...]:
    return scores.store, f"seal {scores.seal[:12]}", f"{scores.split}/{scores.view}"
