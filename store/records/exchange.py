"""A complete folder takes the place of another: one of both is whole at every instant, and a kill changes nothing.

The new folder is complete before the old one is moved aside, and in its place before the old one is removed.
"""

from __future__ import annotations

from pathlib import Path

from store.disk.removing import remove_folder
from store.files import disk_errors, sync


def aside(place: Path) -> Path:
    """Where a folder is while another takes its place."""
    return place.with_name(f"{place.name}.old")


def exchange(beside: Path, place: Path) -> None:
    """Move a complete folder to `place`; an older one is aside until `settle`."""
    settle(place)
    with disk_errors(place):
        if place.exists():
            place.rename(aside(place))
        beside.rename(place)
        sync(place.parent)


def settle(place: Path) -> None:
    """End an exchange, also one that was killed: a folder that is aside is removed, or comes back to an empty place.

    What programs have open in it stays under another name, and is removed by the next exchange.
    """
    old = aside(place)
    with disk_errors(place):
        if place.exists():
            remove_folder(old)
        elif old.exists():
            old.rename(place)
            sync(place.parent)
