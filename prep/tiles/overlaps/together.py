"""Slides that stay in one split because tiles of them share pixels, whatever `slide_pattern` says.

Reads names, and the heads of pictures where the names place tiles of several slides in one picture.
"""

from __future__ import annotations

from dataclasses import replace

from prep.settings import PrepSettings, SplitRule
from prep.tiles.overlaps.places import Size, count_tiles, place_tile, read_corners
from prep.tiles.overlaps.sharing import Placed, join_slides
from prep.tiles.pairs import Candidate, Discovery
from store.images import picture_size
from store.schema import SettingsError, Split


def check_stride(settings: PrepSettings, found: Discovery) -> None:
    """Raise SettingsError if the stride of names is set, and no name counts rows and columns."""
    names = [candidate.id for candidate in found.candidates]
    if settings.name_stride and not count_tiles(names):
        raise SettingsError(
            f"name_stride = {settings.name_stride} says how far tiles <slide>_<row>_<column> are apart, and no name "
            f"has that form, such as {names[0]!r}; leave it away"
        )


def keep_together(settings: PrepSettings, found: Discovery) -> tuple[Discovery, dict[str, str]]:
    """Slides whose tiles share pixels, each with the name of its group, and the candidates with a note on them.

    Where val alone is held out, by the tiles of train.
    """
    drawn = [one for one in found.candidates if settings.split is SplitRule.BY_SLIDE or one.split is Split.TRAIN]
    groups = join_slides(_placed(settings, replace(found, candidates=tuple(drawn))))
    if not groups:
        return found, groups
    named = min(groups.values())
    first = sorted(slide for slide, group in groups.items() if group == named)
    note = (
        f"tiles of {len(groups)} slides share pixels with tiles of another one, by the coordinates in their names, and "
        f"stay in its split, for example {', '.join(map(repr, first[:3]))}"
    )
    return replace(found, notes=(*found.notes, note)), groups


def _placed(settings: PrepSettings, found: Discovery) -> list[Placed]:
    """The tiles of pictures that hold tiles of several slides; tiles are of one size unless squares are cut of them."""
    corners = read_corners([candidate.id for candidate in found.candidates], settings.name_stride)
    known = [
        (candidate, replace(corner, picture=f"{'+'.join(candidate.stains)} {corner.picture}"))  # unpaired, they are two
        for candidate, corner in zip(found.candidates, corners, strict=True)
        if corner
    ]
    slides: dict[str, set[str]] = {}
    for candidate, corner in known:
        slides.setdefault(corner.picture, set()).add(candidate.slide)
    tiles: list[Placed] = []
    size: Size | None = None
    for candidate, corner in known:
        if len(slides[corner.picture]) > 1:
            size = size if size and not settings.tile_side else _size(found, candidate)
            place = place_tile(corner, size) if size else None
            tiles.append(Placed(name=candidate.id, split=candidate.split, slide=candidate.slide, place=place))
    return tiles


def _size(found: Discovery, candidate: Candidate) -> Size | None:
    """Height and width of a candidate's H&E picture, or of its only one, as its head says."""
    sources = found.sources
    size = picture_size(sources.he / candidate.he if candidate.he else sources.ihc / candidate.ihc)
    return (size[0], size[1] // 2) if size and found.sources.joined else size
