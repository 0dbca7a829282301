"""What is refused is collected, so that a person reads all of it at once and corrects it in one go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from store.schema import MagstainError, PairingError


class Refusals:
    """The errors of several checks of one input; `raise_all` at the end, when nothing else can be checked."""

    def __init__(self) -> None:
        self._found: list[MagstainError] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Go on after an error in the block that a user can correct."""
        try:
            yield
        except MagstainError as error:
            self._found.append(error)

    def raise_all(self) -> None:
        """Raise what was collected: one error as it is, several in one PairingError with a number each."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            listed = "; ".join(f"({number}) {error}" for number, error in enumerate(self._found, 1))
            raise PairingError(f"{len(self._found)} things to correct: {listed}")
