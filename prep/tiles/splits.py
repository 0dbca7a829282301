"""Which slide a tile was cut from, and which slides are kept apart for validation and test.

Tiles of one slide are similar, so no slide should occur in two splits. Pure functions of names and numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prep.settings import how_to_set
from store.schema import PairingError, SettingsError, Split

EXAMPLE = how_to_set("slide_pattern=^(.*)_y")  # for names such as slide7_y0_x512
GRID_NAME = r"^(.+)_\d+_\d+$"  # MIST: <slide>_<row>_<column>, seen for validation files


@dataclass(frozen=True, slots=True, kw_only=True)
class Slides:
    """The slide of each tile, in the order of the tiles, with notes for a person."""

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def slides_by_pattern(ids: Sequence[str], pattern: str) -> Slides:
    r"""The slide of each tile by a regular expression that is searched in its id: first group, or else the whole match.

    >>> slides_by_pattern(["100M2004069_10_9"], r"^(.+)_\d+_\d+$").names
    ('100M2004069',)
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            f"slide_pattern {pattern!r} is no regular expression: {error}; correct it, for example {EXAMPLE}"
        ) from error
    return Slides(names=tuple(_slide(expression, tile) for tile in ids))


def slides_by_grid(ids: Sequence[str], owners: Sequence[str]) -> Slides:
    """Slides from file names `<slide>_<row>_<column>`; else each tile counts as a slide, named by `owners`."""
    stems = [tile.rpartition("/")[2] for tile in ids]
    if all(re.search(GRID_NAME, stem) for stem in stems):
        return slides_by_pattern(stems, GRID_NAME)
    return slide_per_tile(ids, owners)


def slide_per_tile(ids: Sequence[str], owners: Sequence[str]) -> Slides:
    """Each tile counts as a slide, for names without a slide in them; a note says what that hides."""
    note = (
        f"slides are unknown: a name such as {ids[0]!r} does not say which slide the tile is from, so each tile counts "
        "as a slide, and leakage (a slide in more than one split) cannot be seen; set slide_pattern to a regular "
        f"expression whose first group is the slide, for example {EXAMPLE} for names such as 'slide7_y0_x512'"
    )
    return Slides(names=tuple(owners), notes=(note,))


def split_by_slide(
    tiles: Mapping[str, int], *, seed: int, val_fraction: float, test_fraction: float
) -> dict[str, Split]:
    """A split for each slide, given how many tiles it has; a function of the seed and the slides, not of their order.

    `test_fraction` is of all tiles, `val_fraction` of the tiles that are not in test. Slides are taken in an order
    drawn from (seed, slide) as long as the part stays within its fraction; if none fits, the smallest is taken. Every
    part that was asked for gets at least one slide, and train keeps at least one.

    Raises SettingsError for an impossible fraction, PairingError if there are too few slides.
    """
    wanted = {Split.TEST: test_fraction, Split.VAL: val_fraction}
    for split, fraction in wanted.items():
        if not 0 <= fraction < 1:
            raise SettingsError(f"{split}_fraction = {fraction}: must be at least 0 and below 1")
    parts = [split for split, fraction in wanted.items() if fraction > 0]
    if parts and len(tiles) <= len(parts):
        raise PairingError(
            f"{len(tiles)} slide(s) ({', '.join(sorted(tiles)[:5])}) cannot be split into "
            f"{', '.join(['train', *parts])}: no slide may occur in two splits, so at least {len(parts) + 1} are "
            f"needed; ask for fewer parts, or set a slide_pattern that separates more slides, for example {EXAMPLE}"
        )
    rest = sorted(tiles, key=lambda slide: hashlib.sha256(f"{seed}/{slide}".encode()).digest())
    splits = dict.fromkeys(tiles, Split.TRAIN)
    for index, split in enumerate(parts):
        kept = len(parts) - index  # one slide for train and for each part still to come
        target = wanted[split] * sum(tiles[slide] for slide in rest)
        taken = _take(rest, tiles, target, len(rest) - kept)
        splits |= dict.fromkeys(taken, split)
        rest = [slide for slide in rest if slide not in taken]
    return splits


def leaking_slides(tiles: Iterable[tuple[Split, str]]) -> frozenset[str]:
    """The slides that have tiles in more than one split.

    >>> sorted(leaking_slides([(Split.TRAIN, "a"), (Split.TEST, "a"), (Split.TEST, "b")]))
    ['a']
    """
    seen: dict[str, Split] = {}
    return frozenset(slide for split, slide in tiles if seen.setdefault(slide, split) is not split)


def _slide(expression: re.Pattern[str], name: str) -> str:
    match = expression.search(name)
    slide = "" if match is None else match.group(1 if expression.groups else 0)
    if not slide:
        raise PairingError(
            f"tile {name!r}: slide_pattern {expression.pattern!r} finds no slide in it (the name is searched without "
            f"its suffix, with its folders); correct the pattern, for example {EXAMPLE}, or rename the tile"
        )
    return slide


def _take(order: Sequence[str], tiles: Mapping[str, int], target: float, most: int) -> set[str]:
    taken: set[str] = set()
    count = 0
    for slide in order:
        if len(taken) < most and count + tiles[slide] <= target:
            taken.add(slide)
            count += tiles[slide]
    return taken or {min(order, key=lambda slide: tiles[slide])}
