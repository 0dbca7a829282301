"""Which slide a tile was cut from: by a pattern, or by its place in a grid. Pure functions of names."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prep.settings import how_to_set
from prep.tiles.names.patterns import example_for
from prep.tiles.pairs import Discovery
from store.schema import PairingError, SettingsError, Stain

GRID_NAME = r"^(.+)_\d+_\d+$"  # MIST: <slide>_<row>_<column>, seen for validation files
GRID_OF_SQUARES = r"([^/]+)_\d+_\d+_y\d+_x\d+"  # of pictures with such names; no $, which make would replace
OF_SQUARES = r"^(.+)_y\d+_x\d+"  # of pictures whose names do not say their slide


@dataclass(frozen=True, slots=True, kw_only=True)
class Slides:
    """The slide of each tile, in the order of the tiles, with notes for a person."""

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def name_slides(found: Discovery, pattern: str) -> Discovery:
    """The same candidates with the names of their slides: by a pattern, or else by their place in a grid.

    The stains of unpaired tiles may be named differently.
    """
    if not found.paired:
        return _name_each(found, pattern)
    ids = [candidate.id for candidate in found.candidates]
    if not ids:
        return found
    if pattern:
        slides = slides_by_pattern(ids, pattern)
    else:  # names of BCI say no slide: their number counts the tiles of a split, and two splits may share a name
        slides = slides_by_grid(ids, [f"{c.split}/{c.id}" if found.published else c.id for c in found.candidates])
    named = tuple(replace(c, slide=slide) for c, slide in zip(found.candidates, slides.names, strict=True))
    return replace(found, candidates=named, notes=(*found.notes, *slides.notes))


def join_forms(found: Discovery) -> Discovery:
    """The same candidates, slides whose names differ in the form of Unicode only being one, as the first is written."""
    forms: dict[str, str] = {}
    for one in found.candidates:
        forms.setdefault(unicodedata.normalize("NFC", one.slide), one.slide)
    named = (replace(one, slide=forms[unicodedata.normalize("NFC", one.slide)]) for one in found.candidates)
    return replace(found, candidates=tuple(named))


def _name_each(found: Discovery, pattern: str) -> Discovery:
    """The candidates of each stain with the names of their slides; a note that both give is said once."""
    of_stain = [tuple(c for c in found.candidates if stain in c.stains) for stain in Stain]
    parts = [name_slides(replace(found, paired=True, candidates=some), pattern) for some in of_stain]
    candidates = sorted((c for part in parts for c in part.candidates), key=lambda candidate: candidate.rank)
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return replace(found, candidates=tuple(candidates), notes=tuple(notes))


def slides_by_pattern(ids: Sequence[str], pattern: str) -> Slides:
    r"""The slide of each tile by a regular expression that is searched in its id: first group, or else the whole match.

    >>> slides_by_pattern(["100M2004069_10_9"], r"^(.+)_\d+_\d+$").names
    ('100M2004069',)
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            f"slide_pattern {pattern!r} is no regular expression: {error}; correct it: {example_for(ids)}"
        ) from error
    return Slides(names=tuple(_slide(expression, tile, ids) for tile in ids))


def slides_by_grid(ids: Sequence[str], owners: Sequence[str]) -> Slides:
    """Slides from file names `<slide>_<row>_<column>`; else each tile counts as a slide, named by `owners`."""
    stems = [tile.rpartition("/")[2] for tile in ids]
    if all(re.search(GRID_NAME, stem) for stem in stems):
        return slides_by_pattern(stems, GRID_NAME)
    return slide_per_tile(ids, owners)


def pattern_of_squares(found: Discovery, given: str) -> str:
    """The `slide_pattern` by which squares of these pictures have the slides of the pictures.

    It is the one that was `given` if it does; else, where names do not say the slide, each picture has its own.
    """
    squares = [f"{candidate.id}_y0_x0" for candidate in found.candidates]
    for pattern in filter(None, (given, GRID_OF_SQUARES)):
        with contextlib.suppress(PairingError):
            if list(slides_by_pattern(squares, pattern).names) == [candidate.slide for candidate in found.candidates]:
                return pattern
    return OF_SQUARES


def require_slides(found: Discovery) -> None:
    """Raise PairingError unless every name says its slide: tiles of unknown slides cannot be split by slide."""
    ids = [candidate.id for candidate in found.candidates]
    if unknown := [tile for tile in ids if not re.search(GRID_NAME, tile.rpartition("/")[2])]:
        raise PairingError(
            f"slides are to be kept apart, but {len(unknown)} of {len(ids)} names, for example {unknown[0]!r}, do not "
            "say which slide the tile is from (<slide>_<row>_<column> does without a setting); set slide_pattern to "
            f"a regular expression whose first group is the slide: {example_for(ids)}; if each tile is from another "
            f"slide, say so with {how_to_set('slide_pattern=.+')}"
        )


def slide_per_tile(ids: Sequence[str], owners: Sequence[str]) -> Slides:
    """Each tile counts as a slide, for names without a slide in them; a note says what that hides."""
    note = (
        f"slides are unknown: a name such as {ids[0]!r} does not say which slide the tile is from, so each tile counts "
        "as a slide, and leakage (a slide in more than one split) cannot be seen; set slide_pattern to a regular "
        f"expression whose first group is the slide: {example_for(ids)}"
    )
    return Slides(names=tuple(owners), notes=(note,))


def _slide(expression: re.Pattern[str], name: str, ids: Sequence[str]) -> str:
    match = expression.search(name)
    slide = "" if match is None else match.group(1 if expression.groups else 0)
    if slide is None or not slide.strip():
        raise PairingError(
            f"tile {name!r}: slide_pattern {expression.pattern!r} finds no slide in it (the name is searched without "
            f"its suffix, with its folders); correct the pattern: {example_for(ids)}; or rename the tile"
        )
    return slide
