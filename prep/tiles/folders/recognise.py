"""Which layout a listing has: a pure function from names of folders to a reading, or to why there is none.

A reading is one way to understand the folders. Where there are two ways, both are named and none is taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from prep.settings import Layout, how_to_set
from prep.tiles.folders.slots import Slot, beside_letters, find_slots, find_ways, marker_of, paths_of, stain_inside
from prep.tiles.folders.telling import (
    BY_TABLE,
    tell_half,
    tell_letters,
    tell_missing,
    tell_nothing,
    tell_other_stain,
    tell_several,
)
from prep.tiles.folders.tree import Folder, join_parts
from prep.tiles.folders.words import MARKERS, Role, Word, plain_word, read_word
from store.foreign.picture_files import is_picture
from store.schema import Split

AROUND = 3  # folders around the tiles that are looked into: a download, its set, its stain


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person said about the folders: the layout, the stain, and whether file names tell the stains apart.

    Where tiles are not `paired`, val and test may have one stain only.
    """

    layout: Layout = Layout.AUTO
    stain: str = ""
    by_name: bool = False
    paired: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The folders of one split: of each stain, or the same ones twice if one file or one folder has both."""

    split: Split
    he: tuple[str, ...]
    ihc: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One way to read the folders. `marker` is what they say about the stain; `parts` are numbers of a download."""

    layout: Layout
    sides: tuple[Side, ...]
    marker: str = ""
    parts: tuple[int, ...] = ()

    @property
    def folders(self) -> str:
        """The folders of the tiles, for a person."""
        return " ".join(dict.fromkeys(path for side in self.sides for path in (*side.he, *side.ihc)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRead:
    """Why a listing is not read."""

    reason: str


def recognise(root: Folder, asked: Asked) -> Reading | NotRead:
    """The reading of a listing: the one that its outermost folders make, if they make exactly one."""
    level, half, seen = [join_parts(root)], "", list[Slot]()
    for depth in range(AROUND + 1):
        looks = [_look(folder, asked, outermost=depth == 0) for folder in level]
        seen += [slot for look in looks for slot in look.slots]
        if doubts := [look.doubt for look in looks if look.doubt]:
            return NotRead(reason=doubts[0])
        if ways := [way for look in looks for way in look.ways]:
            return _explain(_choose(ways, asked), root, seen)
        half = half or next((look.half for look in looks if look.half), "")
        level = [child for folder, look in zip(level, looks, strict=True) for child in look.around(folder)]
    return _explain(NotRead(reason=half or tell_nothing(root, asked.layout)), root, seen)


def _explain(found: Reading | NotRead, root: Folder, slots: Sequence[Slot]) -> Reading | NotRead:
    """What was found; if that is nothing, with what may be the reason: parts that are missing, links to nothing."""
    if isinstance(found, Reading):
        return found
    return NotRead(reason=found.reason + tell_missing(root, slots))


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen in a folder: the folders of tiles, ways to read them, what a half of one lacks, or why to ask."""

    slots: list[Slot]
    ways: tuple[tuple[Slot, ...], ...]
    half: str
    doubt: str

    def around(self, folder: Folder) -> Iterator[Folder]:
        """The folders in it that may lie around tiles: where one says what its tiles are, only those that do not."""
        yield from (child for child in folder.folders if not self.half or read_word(child.name) is None)


def _look(folder: Folder, asked: Asked, *, outermost: bool) -> Look:
    slots = find_slots(folder, Word(), asked.stain, splits=asked.layout is not Layout.FOLDERS)
    filled = [slot for slot in slots if slot.folder.pictures or slot.folder.fault]
    apart = [slot for slot in filled if slot.word.role in (Role.HE, Role.IHC)]
    joined = [slot for slot in filled if slot.word.role is Role.BOTH]  # a folder AB
    unsaid = [slot for slot in filled if not slot.word.role]  # a folder of a split, and no word of a stain
    ways = [*find_ways(apart), *([joined] if joined else [])]
    together = asked.layout in (Layout.SIDE_BY_SIDE, Layout.BY_NAME)
    if not together and not asked.by_name:
        unsaid = [slot for slot in unsaid if not stain_inside(slot.folder)]
    if unsaid and (outermost or len(unsaid) > 1) and (together or not apart):
        ways.append(unsaid)
    loose = (outermost or asked.by_name) and any(map(is_picture, folder.files))
    if loose and (together or not slots) and not joined + unsaid:
        ways.append([Slot(word=Word(), folder=folder)])
    named = [tuple(slot if slot.word.role in (Role.HE, Role.IHC) else _joined(slot, asked) for slot in w) for w in ways]
    fitting = tuple(way for way in named if asked.layout in (Layout.AUTO, way[0].word.layout))
    half = "" if fitting or asked.layout is not Layout.AUTO else tell_half(folder, slots)
    letters = beside_letters(folder, apart) if asked.layout is Layout.AUTO else []
    return Look(
        slots=slots, ways=fitting, half=half, doubt=tell_letters(letters, apart[0].word.layout) if letters else ""
    )


def _choose(ways: Sequence[tuple[Slot, ...]], asked: Asked) -> Reading | NotRead:
    """The one way that is of the stain that is asked for and lacks nothing; else why there is no such."""
    stains = {plain_word(asked.stain), *map(plain_word, re.split(r"[\W_]+", asked.stain))}  # HER2 (4B5): HER2, 4B5
    markers = {marker_of(way) for way in ways}
    if stains & MARKERS and "" not in markers and not stains & markers:
        return NotRead(reason=tell_other_stain(asked.stain, ways))
    named = {""} if stains == {plain_word(Role.IHC)} else stains  # a folder IHC, unless a marker is asked for
    ways = [way for way in ways if marker_of(way) in named] or ways
    markers = {marker_of(way) for way in ways}
    read = [_read(way, asked) for way in ways]
    whole = [way for way, reading in zip(ways, read, strict=True) if isinstance(reading, Reading)]
    doubtful = ways if len(markers) > 1 else whole or ways[:1]
    if len(ways) > 1 and len(doubtful) > 1:
        return NotRead(reason=tell_several(doubtful))
    return _read(doubtful[0], asked)


def _joined(slot: Slot, asked: Asked) -> Slot:
    """A folder of pictures that nothing gives one stain: each holds both, or their names say which."""
    layout = Layout.BY_NAME if asked.by_name else Layout.SIDE_BY_SIDE
    return replace(slot, word=replace(slot.word, role=Role.BOTH, layout=layout))


def _read(way: Sequence[Slot], asked: Asked) -> Reading | NotRead:
    """The reading of folders that belong together, or what they lack."""
    roles = (Role.BOTH,) if way[0].word.role is Role.BOTH else (Role.HE, Role.IHC)
    twice = Counter((slot.word.split, slot.word.role) for slot in way)
    for (split, role), count in twice.items():
        if count > 1:
            same = [slot.where for slot in way if (slot.word.split, slot.word.role) == (split, role)]
            of = f" of {split}" if split else ""
            return NotRead(
                reason=f"{' and '.join(map(repr, same))} may both hold {role}{of}; keep one of them there, or give "
                f"{BY_TABLE}"
            )
    splits = [split for split in Split if any(slot.word.split is split for slot in way)]
    for split in splits:
        for role in roles:
            if not twice[split, role] and (asked.paired or split is Split.TRAIN):
                other = next(slot.where for slot in way if slot.word.split is split)
                return NotRead(
                    reason=f"{other!r} has no counterpart: there is no folder of {role} of {split}; add it, or take "
                    "the other one away"
                )
    if splits and splits[0] is not Split.TRAIN:
        return NotRead(
            reason=f"there are {' and '.join(splits)} and no train ({paths_of(way)}); add the tiles of train"
            f"{_as_tiles(way)}"
        )
    if faults := [f"{slot.where!r} cannot be listed ({slot.folder.fault})" for slot in way if slot.folder.fault]:
        return NotRead(reason=f"{faults[0]}; give the right to read it")
    held_out = splits[1:] if len(splits) == 3 else splits[1:] and [Split.TEST]  # one alone is the published test set
    names = dict(zip(splits, [Split.TRAIN, *held_out], strict=True)) if splits else {None: Split.TRAIN}
    sides = tuple(
        Side(split=name, he=_folders_of(way, split, roles[0]), ihc=_folders_of(way, split, roles[-1]))
        for split, name in names.items()
    )
    numbers = sorted({number for slot in way for number in slot.parts})
    return Reading(layout=way[0].word.layout, sides=sides, marker=marker_of(way), parts=tuple(numbers))


def _as_tiles(way: Sequence[Slot]) -> str:
    """How folders of splits in those of stains are taken for folders of tiles."""
    if way[0].word.layout is not Layout.BCI:
        return ""
    return f", or if the names mean no splits, read the folders of the stains whole: {how_to_set('layout=folders')}"


def _folders_of(way: Sequence[Slot], split: Split | None, role: Role) -> tuple[str, ...]:
    paths = (slot.folder.paths for slot in way if slot.word.split is split and slot.word.role is role)
    return next(paths, ())
