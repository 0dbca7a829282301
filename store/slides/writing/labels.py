"""What a written file says about itself: nothing of time, host or path, so that equal work is equal bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from store.untrusted.text import printable

NO_XML = re.compile("[\ufffe\uffff]")  # signs that XML 1.0 does not have, besides those that nothing shows
SOFTWARE = "magstain"
NOT_CLINICAL = "Not for clinical use."
UM_PER_CM, UM_PER_M = 10_000, 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A picture's name, micrometres per pixel if they are known, and a description, to which "not for …" is added."""

    name: str
    mpp: float | None
    description: str

    @property
    def text(self) -> str:
        """The description with the note that it is not for clinical use."""
        return f"{self.description} {NOT_CLINICAL}".strip()


def one_line(text: str) -> str:
    r"""A text that every kind of file can hold: of names, which may be any bytes, `?` stands for what has no sign.

    >>> one_line("a\udcff.png\n 20x")
    'a?.png 20x'
    """
    return NO_XML.sub("?", printable(" ".join(text.split())))
