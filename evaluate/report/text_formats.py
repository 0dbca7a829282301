"""Heads and cells to text: Markdown aligned for the eye, CSV, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

ESCAPED = {"\\": r"\textbackslash{}",
           "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
           "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "±": r"$\pm$", "²": r"$^2$"}  # fmt: skip


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns are as wide as their widest cell."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    laid = ["| " + " | ".join(c.ljust(width) for c, width in zip(row, widths, strict=True)) + " |" for row in cells]
    ruler = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([laid[0], ruler, *laid[1:]])


def csv_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Comma-separated values with heads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue()


def latex_table(heads: Sequence[str], rows: Sequence[Sequence[tuple[str, bool]]], caption: str) -> str:
    """A table for the package `booktabs`; a cell is its text and whether it is bold."""
    laid = [
        " & ".join(rf"\textbf{{{latex(text)}}}" if bold else latex(text) for text, bold in row) + r" \\" for row in rows
    ]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{latex(caption)}}}",
            rf"\begin{{tabular}}{{ll{'r' * (len(heads) - 2)}}}",
            r"\toprule",
            " & ".join(latex(head) for head in heads) + r" \\",
            r"\midrule",
            *laid,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def latex(text: str) -> str:
    r"""Text with what LaTeX reads as commands escaped.

    >>> print(latex("50% of a_b"))
    50\% of a\_b
    """
    return "".join(ESCAPED.get(letter, letter) for letter in text)
