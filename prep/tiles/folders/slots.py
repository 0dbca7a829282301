"""Folders of tiles by what their paths say, and which of them belong together. Reads listings, never disks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prep.tiles.folders.tree import Folder
from prep.tiles.folders.words import Family, Role, Word, plain_word, read_word


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A folder of tiles, and what its path says."""

    word: Word
    folder: Folder
    parts: tuple[int, ...] = ()

    @property
    def where(self) -> str:
        """Its path, for a person."""
        return " + ".join(self.folder.paths)


def find_slots(
    folder: Folder, word: Word, stain: str, parts: tuple[int, ...] = (), *, splits: bool = True
) -> list[Slot]:
    """The folders of tiles below one whose path says `word`: those whose names say no more further down.

    Without `splits` the folders of a stain are tiles whatever lies in them.
    """
    inner: list[Slot] = []
    parts = folder.parts or parts
    for child in folder.folders:
        said = read_word(child.name, stain)
        both = word.and_below(said) if said is not None else None
        if both is None or (both.split and not splits):
            continue  # a folder among tiles
        below = find_slots(child, both, stain, parts, splits=splits)
        if both == word:  # says nothing itself: a folder around those that do, or one among tiles
            inner += [slot for slot in below if slot.word.role and slot.word != word]
        else:
            inner += below
    if inner or word == Word():
        return inner
    if word.marker and not word.role:
        if any(one and one.role is Role.HE for one in (read_word(f.name) for f in folder.below())):
            return []  # HER2/…/HE: a folder around both stains
        word = replace(word, role=Role.IHC, family=Family.STAIN)
    return [Slot(word=word, folder=folder, parts=parts)]


def find_ways(slots: Sequence[Slot]) -> list[list[Slot]]:
    """The ways to take H&E and IHC folders together: those of one layout, one family of words and one marker."""
    ways = []
    kinds = dict.fromkeys((s.word.layout, s.word.family, s.word.marker) for s in slots if s.word.role is Role.IHC)
    for layout, family, marker in kinds:
        ihc = [s for s in slots if (s.word.role, s.word.layout) == (Role.IHC, layout)]
        ihc = [s for s in ihc if (s.word.family, s.word.marker) == (family, marker)]
        alike = [s for s in slots if s.word.role is Role.HE and s.word.layout is layout]
        marked = [s for s in alike if s.word.marker == marker]
        he = marked or [s for s in alike if not s.word.marker or not marker]
        kin = [s for s in he if s.word.family is family]
        strange = {s.word.family for s in he} & {other for kind, other, _ in kinds if kind is layout}
        if kin or (he and not strange):
            ways.append([*(kin or he), *ihc])
    return ways


def beside_letters(folder: Folder, slots: Sequence[Slot]) -> list[str]:
    """The folders of tiles called A, B and another letter beside each other, which may be slides; else none."""
    named = {slot.folder.paths for slot in slots if len(slot.folder.name) == 1}
    for one in folder.below():
        letters = [child for child in one.folders if len(child.name) == 1 and child.name.isalpha() and child.pictures]
        if len(letters) > 2 and sum(child.paths in named for child in letters) == 2:
            return [child.paths[0] for child in letters]
    return []


def stain_inside(folder: Folder) -> str:
    """The path of a folder of H&E inside of a folder that does not say its stain, if there is one of IHC, too."""
    found: dict[Role, str] = {}
    for one in folder.below():
        word = read_word(one.name)
        if word and (role := Role.IHC if word.marker else word.role):
            found.setdefault(role, one.paths[0])
    return found.get(Role.HE, "") if Role.IHC in found else ""


def paths_of(way: Sequence[Slot]) -> str:
    """The folders of a way, for a person."""
    return ", ".join(repr(slot.where) for slot in way)


def marker_of(way: Sequence[Slot]) -> str:
    """The marker that the folders of a way name; empty if they say IHC only."""
    return next((slot.word.marker for slot in way if slot.word.marker), "")


def title_of(way: Sequence[Slot]) -> str:
    """The marker of a way as its folders write it."""
    terms = (
        term for slot in way for path in slot.folder.paths for term in re.split(r"[/\s_.]+", path.replace("-0", " 0"))
    )
    return next((term for term in terms if plain_word(term) == marker_of(way)), marker_of(way).upper())
