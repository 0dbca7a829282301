"""A data folder as a data set: which layout it has, and the tiles of each stain in every split.

Reads folders, never pictures. Upper and lower case of folder names do not matter; names of pictures are not changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prep.settings import Layout, how_to_set
from prep.tiles.folders.known import BCI, KnownSet, is_bci, mist_set
from prep.tiles.folders.recognise import Asked, NotRead, Reading, Side, recognise
from prep.tiles.folders.telling import tell_no_pictures, tell_swapped
from prep.tiles.folders.tree import Folder, list_tree
from prep.tiles.folders.words import LOOKED_THROUGH, plain_word, read_word
from store.foreign.picture_files import is_picture
from store.pictures.unreadable import unread_suffixes
from store.schema import PairingError, Split
from store.untrusted.names import PICTURE, name_fault

NAMED = 3  # files in a note
ASIDE = "left aside"
AUTO = Asked()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The folders that source names are relative to; `joined` when one file holds both stains, H&E left, IHC right."""

    he: Path
    ihc: Path
    joined: bool

    def absolute(self) -> Sources:
        """The same folders for processes that run in other folders or on other machines."""
        return replace(self, he=self.he.resolve(), ihc=self.ihc.resolve())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A picture: its `name` below its folder without suffix, and its source name relative to the data folder."""

    name: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitTiles:
    """The tiles of one split, of each stain in the order of their names; the same ones if one file holds both.

    `he_folder` and `ihc_folder` are the names of their folders, for a person.
    """

    split: Split
    he: tuple[Tile, ...]
    ihc: tuple[Tile, ...]
    he_folder: str
    ihc_folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set that was found: its layout, its tiles, notes on what else lies there, the published set that it is.

    `around` is the folder around two folders that were named, if these hold folders of splits, which are not read then.
    """

    layout: Layout
    sources: Sources
    splits: tuple[SplitTiles, ...]
    folders: tuple[str, ...]
    notes: tuple[str, ...]
    known: KnownSet | None = None
    parts: tuple[int, ...] = ()
    around: Path | None = None

    @property
    def published(self) -> bool:
        """Whether the folders contain a test set."""
        return len(self.splits) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The pictures of a folder, as sorted names with '/', and the other names in it."""

    pictures: tuple[str, ...]
    ignored: tuple[str, ...]


def find_data_set(data: Path, asked: Asked = AUTO) -> DataSet:
    """The data set in folder `data`, read as is asked for. Raises PairingError with what it lacks."""
    root = list_tree(data)
    reading = recognise(root, asked)
    if isinstance(reading, NotRead):
        unread = unread_suffixes(name for folder in root.below() for name in folder.files)
        also = f"; it holds {unread}" if unread and unread not in reading.reason else ""
        raise PairingError(f"{data}: {reading.reason}{also}")
    index = {folder.paths[0]: folder for folder in root.below()}
    paths = dict.fromkeys(path for side in reading.sides for path in (*side.he, *side.ihc))
    listings = {path: _list_pictures(index[path], data) for path in paths}
    _require_pictures(data, reading.sides, listings)
    splits = tuple(_tiles_of(side, listings) for side in reading.sides)
    joined = reading.layout is Layout.SIDE_BY_SIDE
    return DataSet(
        layout=reading.layout,
        sources=Sources(he=data, ihc=data, joined=joined),
        splits=splits,
        folders=tuple(paths),
        notes=(*_ignored_notes(listings), *_aside_notes(root, listings)),
        known=_known(reading, root.name, asked.stain, splits),
        parts=reading.parts,
    )


def two_folders(he: Path, ihc: Path, layout: Layout = Layout.AUTO) -> DataSet:
    """A data set of two folders, one for each stain; a note says if another `layout` is asked for.

    Raises PairingError if one is missing or both are the same.
    """
    he_root, ihc_root = list_tree(he), list_tree(ihc)
    if he.samefile(ihc):
        raise PairingError(
            f"{he}: is given for both H&E and IHC; name two folders, or for pictures that hold both stains use --data "
            f"with {how_to_set('layout=side-by-side')}"
        )
    listed = {folder: _list_pictures(root, folder) for folder, root in ((he, he_root), (ihc, ihc_root))}
    for folder, listing in listed.items():
        if not listing.pictures:
            raise PairingError(f"{folder}: {tell_no_pictures(listing.ignored)}")
    tiles = SplitTiles(
        split=Split.TRAIN,
        he=tuple(_tiles(".", listed[he])),
        ihc=tuple(_tiles(".", listed[ihc])),
        he_folder=he.name,
        ihc_folder=ihc.name,
    )
    said = he.parent.samefile(ihc.parent) and read_word(he_root.name) and read_word(ihc_root.name)
    around = he.parent if said and _holds_splits(he_root) and _holds_splits(ihc_root) else None
    ignored = Listing(pictures=(), ignored=tuple(name for listing in listed.values() for name in listing.ignored))
    sources = Sources(he=he, ihc=ihc, joined=False)
    unread = (
        ()
        if layout in (Layout.AUTO, Layout.FOLDERS)
        else (f"layout = {layout} is not read where two folders are named",)
    )
    return DataSet(
        layout=Layout.FOLDERS,
        sources=sources,
        splits=(tiles,),
        folders=(str(he), str(ihc)),
        notes=(*unread, *tell_swapped(he_root.name, ihc_root.name), *_ignored_notes({".": ignored})),
        around=around,
    )


def _holds_splits(folder: Folder) -> bool:
    """Whether a folder of tiles has folders of train and of a split beside it."""
    said = {word.split for child in folder.folders if (word := read_word(child.name))}
    return Split.TRAIN in said and len(said - {None}) > 1


def _list_pictures(folder: Folder, data: Path) -> Listing:
    """The names below a folder of tiles. Raises PairingError for a name that cannot be stored as text."""
    path = folder.paths[0]
    if path != "." and (fault := name_fault(path)):
        raise PairingError(f"{data}: the name of the folder {path!r} {fault}; rename the folder")
    pictures, ignored = list[str](), list[str]()
    for name in sorted(_names(folder)):
        (pictures if is_picture(name) else ignored).append(name)
    for name in pictures:
        if fault := name_fault(_without_suffix(name), PICTURE) or name_fault(name):
            raise PairingError(f"{data / path}: the file name {name!r} {fault}; rename the file")
    return Listing(pictures=tuple(pictures), ignored=tuple(ignored))


def _without_suffix(name: str) -> str:
    """The name of a picture, all of which have a suffix, without it."""
    return name.rpartition(".")[0]


def _names(folder: Folder, prefix: str = "") -> Iterator[str]:
    """The names of all files below a folder; PairingError for a folder that cannot be listed."""
    if folder.fault:
        raise PairingError(f"{folder.paths[0]}: cannot be listed ({folder.fault}); name a folder that can be read")
    yield from (prefix + name for name in folder.files)
    for child in folder.folders:
        yield from _names(child, f"{prefix}{child.name}/")


def _require_pictures(data: Path, sides: Iterable[Side], listings: Mapping[str, Listing]) -> None:
    for paths in (paths for side in sides for paths in (side.he, side.ihc) if paths):
        if not any(listings[path].pictures for path in paths):
            ignored = [name for path in paths for name in listings[path].ignored]
            raise PairingError(f"{data / paths[0]}: {tell_no_pictures(ignored)}")


def _tiles_of(side: Side, listings: Mapping[str, Listing]) -> SplitTiles:
    he, ihc = ([tile for path in paths for tile in _tiles(path, listings[path])] for paths in (side.he, side.ihc))
    return SplitTiles(
        split=side.split,
        he=tuple(he),
        ihc=tuple(ihc),
        he_folder=_last(side.he),
        ihc_folder=_last(side.ihc),
    )


def _tiles(path: str, listing: Listing) -> Iterator[Tile]:
    """The pictures of the folder `path`."""
    for name in listing.pictures:
        yield Tile(name=_without_suffix(name), source=_below(path, name))


def _below(path: str, name: str) -> str:
    return name if path == "." else f"{path}/{name}"


def _last(paths: Sequence[str]) -> str:
    """The name of a folder, or of the same one in several parts."""
    return " and ".join(dict.fromkeys(path.rpartition("/")[2] for path in paths))


def _ignored_notes(listings: Mapping[str, Listing]) -> tuple[str, ...]:
    """A note on the names among tiles that are no pictures of tiles, if there are any."""
    ignored = [_below(path, name) for path, listing in listings.items() for name in listing.ignored]
    return (f"ignored {len(ignored)} file(s) that are no tiles: {_some(ignored)}",) if ignored else ()


def _aside_notes(root: Folder, listings: Mapping[str, Listing]) -> tuple[str, ...]:
    """A note on the pictures of other folders than those that are read, if there are any."""
    aside = [
        _below(folder.paths[0], name)
        for folder in _outside(root, listings.keys())
        for name in folder.files
        if is_picture(name)
    ]
    return (f"{ASIDE} {len(aside)} picture(s) in other folders: {_some(aside)}",) if aside else ()


def _outside(folder: Folder, read: Iterable[str]) -> Iterator[Folder]:
    """The folders that are not below one of those that are read."""
    if folder.paths[0] not in read:
        yield folder
        for child in folder.folders:
            yield from _outside(child, read)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:NAMED])) + (", …" if len(names) > NAMED else "")


def _known(reading: Reading, folder: str, stain: str, splits: Iterable[SplitTiles]) -> KnownSet | None:
    """The published set that was found: MIST is told by TrainValAB or parts of a download, BCI by names of pictures."""
    if reading.layout is Layout.MIST:
        told = reading.parts or LOOKED_THROUGH in plain_word(f"{folder}/{reading.folders}")
        return mist_set(reading.marker, folder, stain) if told else None
    return BCI if is_bci([tile.name for split in splits for tile in split.he]) else None
