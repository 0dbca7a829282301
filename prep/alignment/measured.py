"""The measured shifts of a data set: of every tile, together, and of each split and slide. Lengths are px of a tile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prep.tiles.inspected import SoundPair
from store.pairs.shifts import SURE, Shifts, summarise_shifts
from store.pairs.table import Pair, Registration, Skipped
from store.schema import Split

WORST = 10  # pairs that are named and drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A tile whose shift was measured, and the side of its two pictures."""

    split: Split
    side: int
    pair: Pair
    registration: Registration


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """All measured tiles of a data set in the order of (split, id), and the pairs that could not be measured."""

    name: str
    synthetic: bool
    read_as: str
    tiles: tuple[Measured, ...]
    bad: tuple[Skipped, ...]

    @property
    def shifts(self) -> Shifts:
        """All tiles together."""
        return _summary(self.tiles)

    def by_split(self) -> dict[str, Shifts]:
        """The tiles of each split together."""
        return self._by(lambda tile: tile.split)

    def by_slide(self) -> dict[str, Shifts]:
        """The tiles of each slide together, the largest median first; slides without a trusted estimate last."""
        slides = self._by(lambda tile: tile.pair.slide)
        return dict(sorted(slides.items(), key=lambda item: (-(item[1].median or 0.0), item[0])))

    def worst(self) -> list[Measured]:
        """The tiles that are furthest apart, of those whose estimate can be trusted, and then the least certain."""
        sure = [tile for tile in self.tiles if tile.registration.confidence >= SURE]
        furthest = sorted(sure, key=lambda tile: (-tile.registration.distance, tile.split, tile.pair.id))
        return [*furthest, *self.uncertain()][:WORST]

    def uncertain(self) -> list[Measured]:
        """The tiles whose estimate cannot be trusted, the least certain first."""
        doubtful = [tile for tile in self.tiles if tile.registration.confidence < SURE]
        return sorted(doubtful, key=lambda tile: (tile.registration.percent, tile.split, tile.pair.id))

    def _by(self, part: Callable[[Measured], str]) -> dict[str, Shifts]:
        parts: dict[str, list[Measured]] = {}
        for tile in self.tiles:
            parts.setdefault(part(tile), []).append(tile)
        return {name: _summary(tiles) for name, tiles in parts.items()}


def measured_tile(sound: SoundPair) -> Measured:
    """A sound pair whose shift was measured."""
    assert sound.pair.registration, "pairs are inspected with measured=True"
    return Measured(split=sound.candidate.split, side=sound.side, pair=sound.pair, registration=sound.pair.registration)


def _summary(tiles: Iterable[Measured]) -> Shifts:
    shifts = summarise_shifts(tile.pair for tile in tiles)
    assert shifts, "there is a tile, and every tile is measured"
    return shifts
