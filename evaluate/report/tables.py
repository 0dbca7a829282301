"""Scores to the rows of tables: the baselines first, then the runs, each followed by the paper's row of its method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan

from evaluate.columns import COLUMNS, NOTHING, Agreement, Cell, Key, Metric, list_heads
from evaluate.inputs.baselines import CopyHE
from evaluate.protocol import FAKE, ProtocolName
from evaluate.report.comparable import require_comparable
from evaluate.report.paired_tests import compare
from evaluate.report.paper_tables import PaperRow, PaperTable, beside, paper_row, paper_rows, remarks
from evaluate.scores_file import WHOLE, Row, Scores

PRINTED = "as printed"  # the protocol of the paper's own rows
HEADS = ("row", "protocol", "method", "pairs seen", "upscaler", "N")
ZOOM_CAPTION = (
    "Agreement on DAB by zoom, under `corrected`: of whole pictures (x1), their quarters (x2) and sixteenths (x4)"
)
TEST_CAPTION = (
    "Paired permutation tests under `corrected`: the differences of all pictures of a slide change sign together; "
    "p (Holm) is corrected for all tests of the table"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of the table of metrics; baselines have no method, pairs seen and upscaler, the paper's rows no count."""

    name: str
    protocol: str
    method: str = ""
    pairs_seen: int | None = None
    upscaler: str = ""
    count: int | None = None
    cells: dict[Key, Cell] = field(default_factory=dict)
    marks: dict[Key, str] = field(default_factory=dict)

    @property
    def heads(self) -> list[str]:
        """The words before the numbers, in the order of HEADS."""
        pairs_seen = NOTHING if self.pairs_seen is None else f"{self.pairs_seen:,}"
        count = NOTHING if self.count is None else str(self.count)
        return [self.name, self.protocol, self.method or NOTHING, pairs_seen, self.upscaler or NOTHING, count]

    def cell(self, key: Key) -> Cell:
        """A number; an empty cell where this row has none."""
        return self.cells.get(key, Cell())

    def mark(self, key: Key) -> str:
        """The letter of a remark on a number, in brackets."""
        return f" ({self.marks[key]})" if key in self.marks else ""


def table_lines(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> list[Line]:
    """The rows of the table of metrics; those of the paper only beside its own data set.

    RunError unless all runs were scored on the same pictures in the same way.
    """
    require_comparable(runs)
    first, paper = runs[0], beside(paper, runs[0])
    lines = [
        Line(name=name, protocol=protocol, count=len(first.pictures), cells=_cells(first.rows[protocol][name]))
        for name in first.rows[ProtocolName.CORRECTED]
        for protocol in ProtocolName
        if name != FAKE and name in first.rows[protocol]
    ]
    below = []
    for scores in runs:
        lines += [_line(scores, protocol) for protocol in ProtocolName]
        if row := paper_row(paper, scores.method, scores.views):
            lines.append(_paper_line(row, paper))
            below.append(row.name)
    return lines + [_paper_line(row, paper) for row in paper_rows(paper) if row.name not in below]


def verdict(scores: Scores) -> str:
    """Whether a run beats every baseline, column by column of `corrected`, in one sentence.

    It names the columns of `published` where that is another answer. DAB of `copy H&E` is left out: colour
    deconvolution of an H&E picture does not find DAB.
    """
    beaten, not_beaten = _beaten(scores, ProtocolName.CORRECTED)
    others = [key for key in _beaten(scores, ProtocolName.PUBLISHED)[1] if key not in not_beaten]
    other = f"; under `published` it does not in {list_heads(others)}" if others else ""
    if not not_beaten:
        return f"better than every baseline in all columns{other}" if beaten else ""
    better = f"; it does in {list_heads(beaten)}" if beaten else ""
    return f"does not beat the baselines in {list_heads(not_beaten)}{better}{other}"


def _beaten(scores: Scores, protocol: ProtocolName) -> tuple[list[Key], list[Key]]:
    """The columns in which a run is better than every baseline, and those in which it is not."""
    beaten: list[Key] = []
    not_beaten: list[Key] = []
    baselines = {name: _cells(row) for name, row in scores.rows[protocol].items() if name != FAKE}
    for key, own in _cells(scores.row(protocol)).items():
        values = [cells[key].value for name, cells in baselines.items() if key in Metric or name != CopyHE().name]
        known = [value for value in values if not isnan(value)]
        if known and not isnan(own.value):
            column = COLUMNS[key]
            shown = column.best([own.value, *known])
            wins = column.show(own.value) == shown and shown not in map(column.show, known)
            (beaten if wins else not_beaten).append(key)
    return beaten, not_beaten


def columns_with_numbers(lines: Sequence[Line]) -> list[Key]:
    """The columns in which a row has a number."""
    return [key for key in COLUMNS if not all(isnan(line.cell(key).value) for line in lines)]


def best_cells(lines: Sequence[Line]) -> dict[tuple[str, Key], str]:
    """The best number of each column as it is printed, by protocol; the paper's rows do not take part.

    Nothing is the best where one row alone has a number: in earlier scores `published` has no baselines.
    """
    best: dict[tuple[str, Key], str] = {}
    for protocol in ProtocolName:
        for key, column in COLUMNS.items():
            values = [line.cell(key).value for line in lines if line.protocol == protocol]
            if len(values) - sum(map(isnan, values)) > 1:
                best[protocol, key] = column.best(values)
    return best


def is_best(line: Line, key: Key, best: dict[tuple[str, Key], str]) -> bool:
    """Whether a number prints like the best of its column and protocol."""
    shown = COLUMNS[key].show(line.cell(key).value)
    return shown != NOTHING and shown == best.get((line.protocol, key))


def named_rows(runs: Sequence[Scores]) -> dict[str, Row]:
    """The rows of `corrected` by their names in a table: the baselines, then the runs."""
    baselines = {name: row for name, row in runs[0].rows[ProtocolName.CORRECTED].items() if name != FAKE}
    return baselines | {scores.run: scores.row(ProtocolName.CORRECTED) for scores in runs}


def metric_rows(lines: Sequence[Line], keys: Sequence[Key]) -> list[list[str]]:
    """The cells of the table of metrics with their intervals, the best in bold."""
    best, rows = best_cells(lines), []
    for line in lines:
        texts = {key: line.cell(key).show(COLUMNS[key]) + line.mark(key) for key in keys}
        rows.append([*line.heads, *(f"**{texts[key]}**" if is_best(line, key, best) else texts[key] for key in keys)])
    return rows


def plain_rows(lines: Sequence[Line], keys: Sequence[Key]) -> list[list[str]]:
    """Name, protocol and numbers without intervals, the best with an asterisk."""
    best, rows = best_cells(lines), []
    for line in lines:
        shown = [
            COLUMNS[key].show(line.cell(key).value) + line.mark(key) + ("*" if is_best(line, key, best) else "")
            for key in keys
        ]
        rows.append([line.name, line.protocol, *shown])
    return rows


def agreement_rows(runs: Sequence[Scores], keys: Sequence[Agreement], *, intervals: bool) -> list[list[str]]:
    """The cells of the agreement on DAB by zoom, under `corrected`."""
    return [
        [name, zoom, *(show(cells[key], key, intervals=intervals) for key in keys)]
        for name, row in named_rows(runs).items()
        for zoom, cells in row.agreement.items()
    ]


def agreement_columns(runs: Sequence[Scores]) -> list[Agreement]:
    """The columns of the agreement on DAB in which a row has a number."""
    cells = [cells for row in named_rows(runs).values() for cells in row.agreement.values()]
    return [key for key in Agreement if not all(isnan(one[key].value) for one in cells)]


TEST_HEADS = ("first", "second", "metric", "first - second", "p", "p (Holm)")


def tested_rows(runs: Sequence[Scores], *, intervals: bool) -> list[list[str]]:
    """The cells of the paired tests."""
    rows = []
    for found in compare(runs):
        cell = Cell(value=found.difference, low=found.within.low, high=found.within.high)
        chances = [NOTHING if isnan(value) else f"{value:.4f}" for value in (found.probability, found.corrected)]
        rows.append([found.first, found.second, found.head, show(cell, found.metric, intervals=intervals), *chances])
    return rows


def show(cell: Cell, key: Key, *, intervals: bool) -> str:
    """A number as it is printed, with or without its interval."""
    return cell.show(COLUMNS[key]) if intervals else COLUMNS[key].show(cell.value)


def _cells(row: Row) -> dict[Key, Cell]:
    pairs: list[tuple[Key, Cell]] = [*row.cells.items(), *row.agreement.get(WHOLE, {}).items()]
    return dict(pairs)


def _line(scores: Scores, protocol: ProtocolName) -> Line:
    return Line(
        name=scores.run,
        protocol=protocol,
        method=scores.method,
        pairs_seen=scores.pairs_seen,
        upscaler=scores.upscaler,
        count=len(scores.pictures),
        cells=_cells(scores.row(protocol)),
    )


def _paper_line(row: PaperRow, table: PaperTable) -> Line:
    marked = [mark for mark, remark in remarks(table).items() if remark == row.remark]
    marks: dict[Key, str] = dict.fromkeys((Metric.PHV,), marked[0]) if marked else {}
    cells: dict[Key, Cell] = {metric: Cell(value=value) for metric, value in row.values.items()}
    return Line(name=f"paper, MIST-HER2: {row.name}", protocol=PRINTED, cells=cells, marks=marks)
