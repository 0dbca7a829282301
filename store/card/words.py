"""Words of a data card that several sections share: names, lists, tables of Markdown, histograms in one word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from store.untrusted.text import markdown_word

SUBSTANCES = {"haematoxylin": "haematoxylin", "eosin": "eosin", "dab": "DAB"}
SHOWN = 10  # names in a list; the JSON has up to 1000
BARS = "·▁▂▃▄▅▆▇█"


def listed(names: Sequence[str], count: int) -> str:
    """The first names of a list of `count`, and how many more there are."""
    more = f" and {count - SHOWN:,} more" if count > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def bars(tiles: Sequence[int]) -> str:
    """A histogram in one word, a sign for each step, from low to high.

    >>> bars((0, 1, 8, 4))
    '·▁█▄'
    """
    most = max([*tiles, 1])
    return "".join(BARS[-(-count * (len(BARS) - 1) // most)] for count in tiles)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table of Markdown."""
    return [_row(head), _row(["---"] * len(head)), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def word(text: str) -> str:
    """A word from outside, as Markdown shows it."""
    return markdown_word(text)
