"""Notes on what was read: pictures that were converted, pictures that show nothing."""

from __future__ import annotations

from collections.abc import Iterable

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


def _blank_note(split: Split, names: list[str]) -> str:
    more = f" and {len(names) - BLANK_NAMED} more" if len(names) > BLANK_NAMED else ""
    return (
        f"{len(names)} picture(s) of {split} have one colour, like glass without tissue; training learns "
        f"nothing from them, scores count them: {', '.join(map(repr, names[:BLANK_NAMED]))}{more}"
    )
