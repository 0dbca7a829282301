"""Notes on what was read: pictures that were converted, pictures that show nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from prep.tiles.leakage import Fingerprint
from store.schema import Split

BLANK_NAMED = 20  # pictures of one colour, in a note


def conversion_notes(converted: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """A note for each way in which sources were converted, given the name of each source and how it was."""
    examples: dict[str, dict[str, None]] = {}  # the names of sources, each once
    for name, note in converted:
        examples.setdefault(note, {})[name] = None
    return tuple(
        f"{len(names)} picture(s) {note}, for example {next(iter(names))!r}" for note, names in sorted(examples.items())
    )


def blank_notes(prints: Iterable[tuple[Split, str, Fingerprint]]) -> list[str]:
    """A note for each split that has pictures of one colour, with their names."""
    blank: dict[Split, dict[str, None]] = {split: {} for split in Split}  # each name once
    for split, name, of in prints:
        if of.blank:
            blank[split][name] = None
    return [_blank_note(split, list(names)) for split, names in blank.items() if names]


def empty_notes(found: Iterable[Split], kept: Collection[Split]) -> list[str]:
    """A note for each split of which nothing was kept, given the split of everything that was found."""
    lost = Counter(split for split in found if split not in kept)
    return [f"{split} has nothing left: all {count} that it had are bad or left out" for split, count in lost.items()]


def _blank_note(split: Split, names: list[str]) -> str:
    more = f" and {len(names) - BLANK_NAMED} more" if len(names) > BLANK_NAMED else ""
    return (
        f"{len(names)} picture(s) of {split} have one colour, like glass without tissue; training learns "
        f"nothing from them, scores count them: {', '.join(map(repr, names[:BLANK_NAMED]))}{more}"
    )
