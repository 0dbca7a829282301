"""Which files in a folder of others are meant as pictures: the one rule for tiles and for pictures that are scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from store.images import SUFFIXES

NOT_OURS = re.compile(
    r"\..*|__macosx|@eadir|lost\+found|\$recycle\.bin|masks?|annotations?|thumb(nail)?s", re.IGNORECASE
)
"""Folders that systems and annotators leave."""
MASK = re.compile(r"(?:^|[\s_.\-])masks?$|^masks?[\s_.\-]", re.IGNORECASE)  # in the name of a picture without suffix


def is_picture(name: str) -> bool:
    """Whether a file is read as a picture: by its suffix, unless its name says that it is hidden or a mask.

    >>> [is_picture(name) for name in ("a.png", "._a.png", ".nfs0001.png", "a_mask.png", "a.txt")]
    [True, False, False, False, False]
    """
    stem, _, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" in SUFFIXES and stem[:1] not in ("", ".") and not MASK.search(stem)


def pictures_below(folder: Path) -> Iterator[Path]:
    """The pictures in a folder and in those below it, sorted. Raises OSError for a folder that cannot be listed.

    Links are followed, but one to a folder above itself.
    """
    return (path for path in files_below(folder) if is_picture(path.name))


def files_below(folder: Path, is_whole: Callable[[Path], bool] = lambda _: False) -> Iterator[Path]:
    """The files in the folders in which `pictures_below` looks; a folder that `is_whole` is given as if it were one."""
    yield from _below(folder, is_whole, ())


def _below(folder: Path, is_whole: Callable[[Path], bool], above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    facts = folder.stat()
    above = (*above, (facts.st_dev, facts.st_ino))
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or is_whole(path):
            yield path
        elif not NOT_OURS.fullmatch(path.name) and (path.stat().st_dev, path.stat().st_ino) not in above:
            yield from _below(path, is_whole, above)
