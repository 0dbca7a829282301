"""What is said of translations: a line each as long as there are few, of thousands what they have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from store.cli import say, wrapped
from store.records.translation import SKIPPED
from train.translate.job import Done

LISTED = 3  # names in a line
LINES = 20  # of one kind


@dataclass(slots=True, kw_only=True)
class Telling:
    """Pictures of several tiles are told when they are done; notes, and what was kept, in the end and together."""

    _notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _kept: list[str] = field(default_factory=list)
    _tiled: int = 0

    def take(self, done: Done) -> None:
        """Tell of a picture of several tiles; keep in mind what is to be told of the others."""
        record, output = done.record, done.item.output
        for note in record.notes:
            self._notes[note].append(done.item.source.name)
        if done.kept:
            self._kept.append(str(output))
            return
        tiles = "".join(record.tiles)
        if len(tiles) == 1:
            return
        self._tiled += 1
        if self._tiled <= LINES:
            skipped = tiles.count(SKIPPED)
            counts = f"{len(tiles) - skipped:,} tiles translated, {skipped:,} without tissue skipped and white"
            say(wrapped(f"{output}: {counts}; {record.seams or 'no borders between tiles'}"))

    def close(self) -> None:
        """Tell what is left."""
        if (more := self._tiled - LINES) > 0:
            say(wrapped(f"{more:,} more pictures of several tiles are translated; their records say the same of them"))
        for note, names in [*self._notes.items()][:LINES]:
            say(wrapped(f"note: {several(names, 'pictures')}: {note}"))
        if (more := len(self._notes) - LINES) > 0:
            say(f"note: {more:,} more notes are in the records of the pictures")
        if len(self._kept) == 1:
            say(f"{self._kept[0]} already exists: the same translation, kept")
        elif self._kept:
            say(wrapped(f"{several(self._kept, 'outputs')} already exist: the same translations, kept"))


@contextmanager
def telling() -> Iterator[Telling]:
    """Tell of what is done in a block, however it ends."""
    told = Telling()
    try:
        yield told
    finally:
        told.close()


def several(names: Sequence[str], what: str) -> str:
    """A name, or how many there are and the first of them.

    >>> several(["a.png"], "pictures"), several(["a", "b", "c", "d"], "pictures")
    ('a.png', '4 pictures (a, b, c, …)')
    """
    if len(names) == 1:
        return names[0]
    return f"{len(names):,} {what} ({', '.join(names[:LISTED])}{', …' * (len(names) > LISTED)})"
