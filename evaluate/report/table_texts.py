"""The tables as texts: for a terminal, and as the files `table.md`, `table.csv` and `table.tex`."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path

from evaluate.columns import COLUMNS, NOTHING, Key, list_heads
from evaluate.report.captions import (
    ARROWS,
    DAB,
    caption,
    few_slides,
    how_to_read,
    no_numbers,
    notes,
    test_caption,
    zoom_caption,
)
from evaluate.report.paper_tables import PaperTable
from evaluate.report.tables import (
    HEADS,
    TEST_HEADS,
    agreement_columns,
    agreement_rows,
    best_cells,
    columns_with_numbers,
    is_best,
    metric_rows,
    plain_rows,
    table_lines,
    tested_rows,
)
from evaluate.report.text_formats import csv_table, latex_table, markdown_table, plain_blocks
from evaluate.scores_file import Scores, with_words
from store.cli import WIDTH, wrapped
from store.disk.locks import locked
from store.files import disk_errors, write_whole
from store.untrusted.text import markdown_word

BEST = "within a protocol"


def terminal(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE, *, end: str) -> str:
    """All tables for a terminal, in lines of at most 100 columns; the last line `end` says where the intervals are.

    Without arrows and long dashes, so that lines fit for a terminal or a tool that counts bytes too.
    """
    lines = table_lines(runs, paper)
    keys = columns_with_numbers(lines)
    heads = [*HEADS[:2], *(COLUMNS[key].head for key in keys)]
    zooms = agreement_columns(runs)
    zoom_heads = ["row", "zoom", *(COLUMNS[key].head for key in zooms)]
    parts = [
        wrapped(caption(runs, paper)),
        plain_blocks(heads, plain_rows(lines, keys), words=2, width=WIDTH),
        "\n".join(map(wrapped, no_numbers(runs, hidden(keys)))),
        wrapped(f"Means over pictures; *: the best {BEST}. {_which_way(keys)} {DAB}"),
        wrapped(zoom_caption(runs)),
        plain_blocks(zoom_heads, agreement_rows(runs, zooms, intervals=False), words=2, width=WIDTH),
    ]
    if len(runs) > 1:
        tests = plain_blocks(TEST_HEADS, tested_rows(runs, intervals=False), words=3, width=WIDTH, longest=24)
        parts += [wrapped(test_caption(runs)), tests]
    parts += ["\n".join(wrapped(f"- {note}", indent="  ") for note in notes(runs, paper)), end]
    return "\n\n".join(part for part in parts if part).replace(NOTHING, "-")


def _which_way(keys: Sequence[Key]) -> str:
    """Which columns are better when higher, in one sentence."""
    higher = [key for key in keys if COLUMNS[key].higher]
    ideal = "".join(f"{list_heads([key])} is best at {COLUMNS[key].ideal:g}; " for key in keys if _has_ideal(key))
    return f"Higher is better: {list_heads(higher)}; {ideal}lower is better: all others."


def _has_ideal(key: Key) -> bool:
    return COLUMNS[key].ideal is not None


def markdown(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> str:
    """All tables in Markdown under their caption: metrics, agreement by zoom, paired tests, notes."""
    runs = [with_words(scores, markdown_word) for scores in runs]
    lines = table_lines(runs, paper)
    keys = columns_with_numbers(lines)
    zooms = agreement_columns(runs)
    parts = [
        f"{caption(runs, paper)} {how_to_read(runs)} Bold: the best {BEST}. {ARROWS}",
        markdown_table([*HEADS, *(COLUMNS[key].arrow_head for key in keys)], metric_rows(lines, keys)),
        *no_numbers(runs, hidden(keys)),
        zoom_caption(runs),
        markdown_table(
            ["row", "zoom", *(COLUMNS[key].arrow_head for key in zooms)], agreement_rows(runs, zooms, intervals=True)
        ),
    ]
    if len(runs) > 1:
        parts += [test_caption(runs), markdown_table(TEST_HEADS, tested_rows(runs, intervals=True))]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes(runs, paper))]) + "\n"


def latex(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> str:
    """The table of metrics for a paper: `booktabs`, the number alone in each cell, the best in bold."""
    lines = table_lines(runs, paper)
    keys = columns_with_numbers(lines)
    best, rows = best_cells(lines), []
    for line in lines:
        shown = [(COLUMNS[key].show(line.cell(key).value), is_best(line, key, best)) for key in keys]
        rows.append([(line.name, False), (line.protocol, False), *shown])
    sentences = [caption(runs, paper), f"Means over pictures. {DAB} Bold: the best {BEST}."]
    sentences += [f"{reason}." for reason in no_numbers(runs, hidden(keys))]
    return latex_table(["row", "protocol", *(COLUMNS[key].head for key in keys)], rows, " ".join(sentences))


def csv_text(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> str:
    """The table for programs: always the same columns, full precision, both ends of each interval, and the data.

    What has no number is empty.
    """
    first = runs[0]
    numbers = [f"{column.head}{end}" for column in COLUMNS.values() for end in ("", " low", " high")]
    data = [first.slides, first.store, first.stain, first.split, first.view, str(first.synthetic).lower()]
    data.append("; ".join([*first.leakage, *few_slides(first.slides)]))
    rows = []
    for line in table_lines(runs, paper):
        cells = [line.cell(key) for key in COLUMNS]
        values = [number for cell in cells for number in (cell.value, cell.low, cell.high)]
        rows.append(
            [line.name, line.protocol, line.method, line.pairs_seen, line.upscaler, line.count]
            + ["" if isnan(value) else repr(value) for value in values]
            + data
        )
    return csv_table([*HEADS, *numbers, "slides", "store", "stain", "split", "view", "synthetic", "warnings"], rows)


def write_table(runs: Sequence[Scores], folder: Path, paper: PaperTable = PaperTable.NONE) -> list[Path]:
    """Write `table.md`, `table.csv` and `table.tex`, each completely or not at all."""
    texts = {
        "table.md": markdown(runs, paper),
        "table.csv": csv_text(runs, paper),
        "table.tex": latex(runs, paper),
    }
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "table.lock", f"the table in {folder}", "used"):
            for name, text in texts.items():
                write_whole(folder / name, text.encode())
    return [folder / name for name in texts]


def hidden(keys: Sequence[Key]) -> list[Key]:
    """The columns that are not among `keys`."""
    return [key for key in COLUMNS if key not in keys]
