"""Why folders are not read: sentences without the name of the data folder, each with what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prep.settings import Layout, how_to_set
from prep.tiles.folders.known import mist_set, tell_parts
from prep.tiles.folders.slots import Slot, marker_of, paths_of, stain_inside, title_of
from prep.tiles.folders.tree import ARCHIVES, LOST, Folder
from prep.tiles.folders.words import Role, read_word
from store.images import SUFFIXES
from store.pictures.unreadable import unread_suffixes

SHOWN = 8  # names in an error
BY_TABLE = "a table of the pairs: --pairs-from pairs.csv (make: PAIRS=pairs.csv)"
NEEDS = {
    Layout.MIST: "mist: trainA trainB and valA valB or testA testB (also below TrainValAB), A = H&E, B = IHC",
    Layout.BCI: "bci: HE/train HE/test IHC/train IHC/test",
    Layout.SPLIT_FIRST: "split-first: train/HE train/IHC test/HE test/IHC",
    Layout.FOLDERS: "folders: HE and IHC, or two folders named by --he and --ihc (make: HE= IHC=)",
    Layout.SIDE_BY_SIDE: "side-by-side: pictures with H&E left and IHC right, or train and test with such pictures",
    Layout.BY_NAME: "by-name: pictures of both stains in one folder, told apart by he_name and ihc_name",
    Layout.TABLE: BY_TABLE,
}


def tell_several(ways: Sequence[Sequence[Slot]]) -> str:
    """That the folders can be read in several ways, each with how to choose it."""
    markers, layouts = [marker_of(way) for way in ways], [way[0].word.layout for way in ways]
    told = [f"{way[0].word.layout} of {paths_of(way)}" for way in ways]
    if len(set(markers)) == len(ways) and all(markers):
        told = [f"{one} with stain={title_of(way)}" for one, way in zip(told, ways, strict=True)]
        example = f"stain={title_of(ways[0])}"
    elif len(set(layouts)) == len(ways):
        told = [f"{one} with layout={layout}" for one, layout in zip(told, layouts, strict=True)]
        example = f"layout={layouts[0]}"
    else:
        more = [f"and {len(told) - SHOWN} more"] * (len(told) > SHOWN)
        return (
            f"can be read in {len(ways)} ways: {'; '.join([*told[:SHOWN], *more])}; name the folder around one of them "
            f"(--data; make: DATA=), both of its folders (--he and --ihc; make: HE= IHC=), or {BY_TABLE}"
        )
    return f"can be read in {len(ways)} ways: {'; '.join(told)}; choose one, for example {how_to_set(example)}"


def tell_other_stain(stain: str, ways: Sequence[Sequence[Slot]]) -> str:
    """That the folders are of other stains than the one that is asked for."""
    titles = list(dict.fromkeys(title_of(way) for way in ways))
    return (
        f"stain = {stain}, but its folders are of {' or '.join(titles)}; correct one of them, for example "
        f"{how_to_set(f'stain={titles[0]}')}"
    )


def tell_letters(folders: Sequence[str], layout: Layout) -> str:
    """That folders called A, B, C may be those of slides, and how to say that two of them are those of stains."""
    return (
        f"{', '.join(map(repr, folders[:SHOWN]))} may be slides, or A the H&E and B the IHC: for stains say "
        f"{how_to_set(f'layout={layout}')} or name both with --he and --ihc (make: HE= IHC=), else give {BY_TABLE}"
    )


def tell_no_pictures(names: Iterable[str]) -> str:
    """That a folder with files of these names holds nothing that is read, and what to do."""
    if unread := unread_suffixes(names):
        return f"holds {unread}"
    return f"holds no pictures ({', '.join(sorted(SUFFIXES))}); put the tiles there"


def tell_half(folder: Folder, slots: Sequence[Slot]) -> str:
    """What is missing where folders say what they hold and make no layout together."""
    said = [slot for slot in slots if slot.word.role]
    if empty := [slot for slot in said if not slot.folder.pictures]:
        return f"{empty[0].where!r} {tell_no_pictures(name for one in empty[0].folder.below() for name in one.files)}"
    by_role = {role: [slot for slot in said if slot.word.role is role] for role in (Role.HE, Role.IHC)}
    held = [f"{paths_of(found)} for {role}" for role, found in by_role.items() if found]
    if len(held) == 2:
        return (f"its folders do not match: {' and '.join(held)}; the folders of both stains must be laid "
                       f"out alike, or give {BY_TABLE}")  # fmt: skip
    he = {slot.folder.paths for slot in by_role[Role.HE]}
    around = [one for one in folder.below() if any(child.paths in he for child in one.folders)]
    beside = (child for one in around for child in one.folders if child.pictures and read_word(child.name) is None)
    others = list(dict.fromkeys(child.name for child in beside))
    if by_role[Role.HE]:
        named = " or ".join(map(repr, others[:SHOWN]))
        hint = f"; if it is {named}, set its name: {how_to_set(f'stain={others[0]}')}" if others else ""
        return (f"has folders of H&E ({paths_of(by_role[Role.HE])}) and none whose name says IHC, such as IHC, "
                       f"HER2, B or label{hint}; or name both with --he and --ihc (make: HE= IHC=)")  # fmt: skip
    if by_role[Role.IHC]:
        return (f"has folders of IHC ({paths_of(by_role[Role.IHC])}) and none whose name says H&E, such as HE, "
                       "A or input; or name both with --he and --ihc (make: HE= IHC=)")  # fmt: skip
    return next((_tell_inside(slot, inside) for slot in slots if (inside := stain_inside(slot.folder))), "")


def _tell_inside(slot: Slot, inside: str) -> str:
    """That folders of stains lie too deep, for example those of each slide, and where they should."""
    around, _, stain = inside.removeprefix(f"{slot.folder.paths[0]}/").rpartition("/")
    return (
        f"{inside!r} is a folder of a stain in one that says nothing: lay it out as {slot.where}/{stain}/{around}, or "
        f"give {BY_TABLE}"
    )


def tell_nothing(root: Folder, layout: Layout) -> str:
    """What lies in a folder that is not read, and what would be."""
    held = _listed([repr(folder.name) for folder in root.folders]) or "no folders"
    needs = "; ".join(NEEDS.values()) if layout is Layout.AUTO else NEEDS[layout]
    return f"no tiles in layout {layout}: it holds {held} and needs one of {needs}"


def tell_missing(root: Folder, slots: Sequence[Slot]) -> str:
    """What may be the reason that folders are missing: archives, parts of a download, links to nothing."""
    parts = sorted({number for slot in slots for number in slot.parts})
    packed = [name for name in root.files if name.lower().endswith(ARCHIVES)]
    lost = [name for folder in root.below() for name in folder.files if name.endswith(LOST)]
    told = [
        *([_tell_known(slots), tell_parts(parts)] if parts else []),
        *([f"{packed[0]!r} is an archive: unpack it"] if packed else []),
        *([f"{lost[0].removesuffix(LOST)!r} is a link to nothing: correct it"] if lost else []),
    ]
    return "".join(f"; {one}" for one in told if one)


def _tell_known(slots: Sequence[Slot]) -> str:
    """How many pairs the published set has that these folders are part of, and how many tiles are here."""
    known = mist_set(*(slot.word.marker for slot in slots))
    here = [sum(slot.folder.pictures for slot in slots if slot.word.role is role) for role in (Role.HE, Role.IHC)]
    return f"{known.size}, here are {here[0]} H&E and {here[1]} IHC tile(s)" if known else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def tell_swapped(he: str, ihc: str) -> tuple[str, ...]:
    """A note if the names of the folders that were given for H&E and IHC say the other stain.

    >>> tell_swapped("HE_20x", "HER2"), tell_swapped("slides1", "slides2")
    ((), ())
    """
    first, second = read_word(he), read_word(ihc)
    is_ihc = first is not None and (first.role is Role.IHC or bool(first.marker))
    if not is_ihc or second is None or second.role is not Role.HE:
        return ()
    return (
        f"folder {he!r} is given for H&E and {ihc!r} for IHC, and their names say the opposite: swap --he and --ihc",
    )
