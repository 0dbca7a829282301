"""Names that are too long for their disk are refused before work begins, with the names that are made from them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from store.schema import StoreError

NAME, WHOLE = 255, 4096  # bytes of a name and of a path, with its end, where a disk does not say (Linux, macOS)


def check_length(path: Path, ending: str = "", within: int = 0) -> None:
    """Refuse a path that its disk cannot hold once `ending` is added to its name, or `within` bytes of names below it.

    Raises StoreError, which says which name it is, how long, and how long it may be.
    """
    most, whole = _limit(path, "PC_NAME_MAX", NAME), _limit(path, "PC_PATH_MAX", WHOLE) - 1
    for name in (*path.parts[:-1], path.name + ending):
        if (length := len(os.fsencode(name))) > most:
            made = f", which would be beside {path}," if name != path.name and name == path.name + ending else ""
            raise StoreError(
                f"the name {name}{made} is too long: it has {length} bytes, and this disk takes {most}; shorten it"
            )
    more = len(ending) + within
    if (length := len(os.fsencode(path))) + more > whole:
        raise StoreError(
            f"the path {path} is too long: it has {length} bytes, names in it up to {more} more, and {whole} are "
            "possible; choose fewer or shorter folders"
        )


def _limit(path: Path, name: str, otherwise: int) -> int:
    """A limit of the disk on which a path is, or will be."""
    for folder in path.absolute().parents:
        with suppress(OSError, ValueError):  # it does not exist, is itself too long, or the limit is not known
            return os.pathconf(folder, name)
    return otherwise
