"""Heads and cells to text: plain blocks for a terminal, Markdown, CSV, LaTeX."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from store.untrusted.text import spreadsheet_word

ESCAPED = {"\\": r"\textbackslash{}",
           "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
           "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "±": r"$\pm$", "²": r"$^2$"}  # fmt: skip
GAP = 2  # columns between two columns of a table; a mark after a number takes the first of them
MARK = "*"
HEAD = 8  # columns of a terminal for a head of numbers; a longer head takes several lines
NO_BREAK = "\N{NO-BREAK SPACE}"


def plain_blocks(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int, width: int, longest: int = 36
) -> str:
    """A table in at most `width` columns of a terminal: as many blocks below each other as that takes.

    The first `words` columns hold words and are repeated in each block; the others hold numbers, with or without MARK.
    Words longer than `longest` continue in the next line, and so do long heads.

    >>> rows = [["a long name", "0.5*", "0.1"]]
    >>> print(plain_blocks(["row", "SSIM", "DAB rel. error"], rows, words=1, width=14, longest=6))
    row     SSIM
    -------------
    a long   0.5*
    name
    <BLANKLINE>
            DAB rel.
    row        error
    -----------------
    a long       0.1
    name
    """
    columns = range(len(heads))
    top = [[heads[column]] if column < words else _wrap_head(heads[column]) for column in columns]
    cells = [[textwrap.wrap(text, longest) if n < words else [text] for n, text in enumerate(row)] for row in rows]
    widths = [max(len(text.rstrip(MARK)) for row in (top, *cells) for text in row[column]) for column in columns]
    blocks: list[list[int]] = [[*range(words)]]
    for column in columns[words:]:
        if len(blocks[-1]) > words and _total(widths, [*blocks[-1], column]) > width:
            blocks.append([*range(words)])
        blocks[-1].append(column)
    return "\n\n".join(_block(top, cells, widths, words, block) for block in blocks)


def _wrap_head(head: str) -> list[str]:
    """A head in lines; an arrow stays with the word before it."""
    together = NO_BREAK.join(head.rsplit(" ", 1)) if head[-1:] in "↑↓" else head
    return [line.replace(NO_BREAK, " ") for line in textwrap.wrap(together, HEAD, break_long_words=False)]


def _block(
    top: Sequence[list[str]],
    rows: Sequence[Sequence[list[str]]],
    widths: Sequence[int],
    words: int,
    columns: Sequence[int],
) -> str:
    def lay(column: int, text: str) -> str:
        if column < words:
            return text.ljust(widths[column] + GAP)
        return text.rstrip(MARK).rjust(widths[column]) + text[len(text.rstrip(MARK)) :].ljust(GAP)

    def lines(cells: Sequence[list[str]]) -> list[str]:
        texts = zip_longest(*(cells[column] for column in columns), fillvalue="")
        return ["".join(map(lay, columns, line)).rstrip() for line in texts]

    high = max(len(top[column]) for column in columns)
    heads = lines([[""] * (high - len(head)) + head for head in top])
    return "\n".join([*heads, "-" * _total(widths, columns), *(line for row in rows for line in lines(row))])


def _total(widths: Sequence[int], columns: Sequence[int]) -> int:
    """The width of a block, with room for a mark at its end."""
    return sum(widths[column] + GAP for column in columns) - GAP + len(MARK)


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
    writer.writerows([spreadsheet_word(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
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
    r"""Text with the special characters of LaTeX escaped.

    >>> print(latex("50% of a_b"))
    50\% of a\_b
    """
    return "".join(ESCAPED.get(letter, letter) for letter in text)
