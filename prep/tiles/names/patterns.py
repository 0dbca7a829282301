"""A slide_pattern that fits the names that are there, for messages that ask for one. Pure functions of names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from prep.settings import how_to_set
from prep.tiles.overlaps.places import read_corner

USUAL = "^(.*)_y"  # for names such as slide7_y0_x512
NUMBER = r"[^\W\d_]{0,6}=?\d+"  # a word such as x or tile, and a number
ENDS = tuple(re.compile(rf"([\s_.,\-]+){NUMBER}{second}$") for second in (rf"\1{NUMBER}", ""))


def fitting_pattern(ids: Sequence[str]) -> str:
    r"""The first pattern that finds a slide in every id, two slides or more, one with several ids; else empty.

    >>> fitting_pattern(["s7_y0_x512", "s7_y512_x0", "s8_y0_x0"])
    '^(.+)_y\\d+_x\\d+'
    """
    corners = [read_corner(one) for one in ids]
    if all(corners) and len({corner.picture for corner in corners if corner}) < 2:
        return ""  # all of one picture: what would part its names is a place in it
    for pattern in dict.fromkeys(_patterns(ids)):
        found = [re.search(pattern, one) for one in ids]
        slides = len({match[1] for match in found if match})
        if all(found) and 1 < slides < len(ids):  # a slide for each tile would only hide that slides are unknown
            return pattern
    return ""


def example_for(ids: Sequence[str]) -> str:
    """How a person sets a pattern that fits these ids; where none is found, one that fits names as are usual."""
    if pattern := fitting_pattern(ids):
        slides = len({match[1] for one in ids if (match := re.search(pattern, one))})
        return f"{how_to_set(f'slide_pattern={pattern}')}, which finds {slides} slides in these names"
    return f"for example {how_to_set(f'slide_pattern={USUAL}')} for names such as 'slide7_y0_x512'"


def _patterns(ids: Sequence[str]) -> Iterator[str]:
    """What the ids may have in common: the place in a grid at their end, one number there, or folders of slides."""
    for end in ENDS:
        if match := end.search(ids[0] if ids else ""):
            plain = (
                re.escape(match[0]).replace("\\ ", r"\s").replace("\\-", "-")
            )  # no blank and no $: make would part or replace them
            yield "^(.+)" + re.sub("[0-9]+", lambda _: r"\d+", plain)
    if all("/" in one for one in ids):
        yield r"^([^/]+)/"
        yield r"^(.+)/"
