"""The layouts of data folders: which one a folder has, and the pictures in it.

Reads folders, never pictures. Upper and lower case of folder names do not matter; names of pictures are not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from prep.settings import Layout, how_to_set
from store.images import SUFFIXES
from store.schema import PairingError, Split
from store.untrusted.names import PICTURE, name_fault

_NEEDS = {
    Layout.MIST: "mist: trainA trainB and valA valB or testA testB (also below TrainValAB), A = H&E, B = IHC",
    Layout.BCI: "bci: HE/train HE/test IHC/train IHC/test",
    Layout.FOLDERS: "folders: HE and IHC, or two folders named by --he and --ihc (make: HE= IHC=)",
    Layout.SIDE_BY_SIDE: "side-by-side: pictures with H&E left and IHC right, or train and test with such pictures",
}
_HELD_OUT = ("val", "test")  # MIST publishes its test set as `val`, BCI as `test`


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
class Part:
    """The two folders of one split; the same folder twice when one file holds both pictures."""

    split: Split
    he: Path
    ihc: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The pictures below a folder, as sorted relative names with '/', and the names of all other files."""

    pictures: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set that was found: its layout, the folders that names are relative to, the folders of each split.

    `listings` has the pictures of every folder of the parts.
    """

    layout: Layout
    sources: Sources
    parts: tuple[Part, ...]
    listings: Mapping[Path, Listing]

    @property
    def published(self) -> bool:
        """Whether the folders contain a test set."""
        return len(self.parts) > 1


def find_data_set(data: Path, layout: Layout) -> DataSet:
    """The data set in folder `data`, in the given layout, or with `auto` in the first one that fits.

    Raises PairingError with what the layout needs.
    """
    folders = _folders(data)
    for kind in [layout] if layout is not Layout.AUTO else _FINDERS:
        if parts := _FINDERS[kind](data):
            sources = Sources(he=data, ihc=data, joined=kind is Layout.SIDE_BY_SIDE)
            return DataSet(layout=kind, sources=sources, parts=parts, listings=_list_all(parts))
    found = ", ".join(repr(folder.name) for folder in folders.values()) or "no folders"
    inside = [f.name for f in folders.values() if layout is Layout.AUTO and any(find(f) for find in _FINDERS.values())]
    hint = f"; did you mean {str(data / inside[0])!r}?" if inside else ""
    needs = "; ".join(_NEEDS.values()) if layout is Layout.AUTO else _NEEDS[layout]
    raise PairingError(f"{data}: no tiles in layout {layout}: it holds {found} and needs one of {needs}{hint}")


def two_folders(he: Path, ihc: Path) -> DataSet:
    """A data set of two folders, one for each stain; PairingError if one is missing or both are the same."""
    for folder in (he, ihc):
        _folders(folder)
    if he.samefile(ihc):
        raise PairingError(
            f"{he}: is given for both H&E and IHC; name two folders, or for pictures that hold both stains use --data "
            f"with {how_to_set('layout=side-by-side')}"
        )
    parts = (Part(split=Split.TRAIN, he=he, ihc=ihc),)
    sources = Sources(he=he, ihc=ihc, joined=False)
    return DataSet(layout=Layout.FOLDERS, sources=sources, parts=parts, listings=_list_all(parts))


def _list_all(parts: Sequence[Part]) -> dict[Path, Listing]:
    """The pictures of every folder of the parts; a folder of both stains is listed once."""
    folders = dict.fromkeys(folder for part in parts for folder in (part.he, part.ihc))
    return {folder: list_pictures(folder) for folder in folders}


def list_pictures(folder: Path) -> Listing:
    """Every picture below `folder`; hidden names and other suffixes are ignored.

    Raises PairingError if there is none, or for a name that cannot be stored as text.
    """
    files = sorted(_walk(folder, "", ()))
    pictures = [name for name in files if _is_picture(Path(name))]
    for name in pictures:
        if fault := name_fault(name.removesuffix(PurePosixPath(name).suffix), PICTURE) or name_fault(name):
            raise PairingError(f"{folder}: the file name {name!r} {fault}; rename the file")
    if not pictures:
        raise PairingError(f"{folder}: holds no pictures ({', '.join(sorted(SUFFIXES))}); put the tiles there")
    return Listing(pictures=tuple(pictures), ignored=tuple(name for name in files if not _is_picture(Path(name))))


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Names below a folder; links are followed, but one to a folder above is listed as a file."""
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        yield f"{prefix.rstrip('/')} (a link to a folder above)"
        return
    for entry in _entries(folder):
        name = f"{prefix}{entry.name}"
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _walk(entry, f"{name}/", (*above, identity))
        else:
            yield name


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError as error:
        raise PairingError(
            f"{folder}: no such folder; check the path of the tiles (--data, --he, --ihc; make: DATA=, HE=, IHC=)"
        ) from error
    except OSError as error:
        raise PairingError(f"{folder}: cannot be listed ({error.strerror}); name a folder that can be read") from error


def _folders(folder: Path) -> dict[str, Path]:
    """The folders directly inside, by name in lower case."""
    folders: dict[str, Path] = {}
    for entry in _entries(folder):
        if entry.is_dir() and not entry.name.startswith("."):
            other = folders.setdefault(entry.name.lower(), entry)
            if other is not entry:
                raise PairingError(
                    f"{folder}: {other.name!r} and {entry.name!r} differ in case only; rename one of them"
                )
    return folders


def _split_names(folder: Path, present: Callable[[str], bool]) -> list[tuple[Split, str]]:
    """The parts that exist, with their split; val and test are two names for the test set."""
    held_out = [name for name in _HELD_OUT if present(name)]
    if len(held_out) > 1:
        raise PairingError(f"{folder}: has val and test, and either is the published test set; keep one of them")
    return [(Split.TRAIN, "train"), *((Split.TEST, name) for name in held_out)]


def _find_mist(data: Path) -> tuple[Part, ...]:
    root = _folders(data).get("trainvalab", data)
    folders = _folders(root)
    if not {"traina", "trainb"} & folders.keys():
        return ()
    names = _split_names(root, lambda name: bool({f"{name}a", f"{name}b"} & folders.keys()))
    return tuple(
        Part(split=split, he=_need(root, folders, f"{name}A"), ihc=_need(root, folders, f"{name}B"))
        for split, name in names
    )


def _find_bci(data: Path) -> tuple[Part, ...]:
    stains = _folders(data)
    if not {"he", "ihc"} <= stains.keys():
        return ()
    he, ihc = _folders(stains["he"]), _folders(stains["ihc"])
    if "train" not in he.keys() | ihc.keys():
        return ()
    names = _split_names(data, lambda name: name in he.keys() | ihc.keys())
    return tuple(
        Part(split=split, he=_need(stains["he"], he, name), ihc=_need(stains["ihc"], ihc, name))
        for split, name in names
    )


def _find_folders(data: Path) -> tuple[Part, ...]:
    stains = _folders(data)
    if not {"he", "ihc"} <= stains.keys():
        return ()
    return (Part(split=Split.TRAIN, he=stains["he"], ihc=stains["ihc"]),)


def _find_joined(data: Path) -> tuple[Part, ...]:
    folders = _folders(data)
    if "train" in folders:
        names = _split_names(data, lambda name: name in folders)
        return tuple(Part(split=split, he=folders[name], ihc=folders[name]) for split, name in names)
    if any(_is_picture(entry) for entry in _entries(data)):
        return (Part(split=Split.TRAIN, he=data, ihc=data),)
    return ()


def _need(root: Path, folders: dict[str, Path], name: str) -> Path:
    if name.lower() not in folders:
        raise PairingError(f"{root}: has no folder {name!r}, but its counterpart exists; add it or remove the other")
    return folders[name.lower()]


_FINDERS: dict[Layout, Callable[[Path], tuple[Part, ...]]] = {
    Layout.MIST: _find_mist,
    Layout.BCI: _find_bci,
    Layout.FOLDERS: _find_folders,
    Layout.SIDE_BY_SIDE: _find_joined,
}
