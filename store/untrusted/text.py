"""Words from outside in documents that give signs a meaning: Markdown, and tables for a spreadsheet."""

from __future__ import annotations

import re

from store.untrusted.names import UNPRINTABLE

ACTIVE = re.compile(r"[\\`*<>\[\]~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")  # CommonMark, and strike-through of GitHub
FORMULA = ("=", "+", "-", "@")  # what a spreadsheet computes (OWASP, CSV injection)


def printable(text: str) -> str:
    r"""A word in one line, with `?` in place of signs that steer a terminal or turn the direction of text.

    >>> printable("a\x1b[2Jb")
    'a?[2Jb'
    """
    return UNPRINTABLE.sub("?", text)


def markdown_word(text: str) -> str:
    r"""A word that Markdown shows as it is; a table escapes its own `|`.

    >>> print(markdown_word("asp_1 <b>"), markdown_word("[x](y)"))
    asp_1 \<b\> \[x\](y)
    """
    return ACTIVE.sub(r"\\\g<0>", printable(text))


def spreadsheet_word(text: str) -> str:
    """A word that a spreadsheet takes for a word: one that begins like a formula, and is no number, gets a quote.

    >>> spreadsheet_word("=1+1"), spreadsheet_word("-0.5")
    ("'=1+1", '-0.5')
    """
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(FORMULA) else text
    return text
