"""One writer at a time: the lock of a set of predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from store.disk.locks import locked
from store.disk.locks import shared as held_shared
from store.run_files import PredictionFolder


@contextmanager
def held(place: PredictionFolder, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a set of predictions, alone to write it or `shared` to read it; StoreError if it is in use.

    Without a folder in which the set could be there is nothing to lock.
    """
    what = f"the set of predictions {place.path}"
    if not place.path.parent.is_dir():
        yield
        return
    with held_shared(place.lock, what) if shared else locked(place.lock, what, "used"):
        yield


@contextmanager
def all_held(places: Iterable[PredictionFolder]) -> Iterator[None]:
    """Hold the locks of several sets of predictions, to read them."""
    with ExitStack() as locks:
        for place in dict.fromkeys(places):
            locks.enter_context(held(place, shared=True))
        yield
