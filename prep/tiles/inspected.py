"""What was found when the pictures of the candidates were read: sound pairs, bad ones, and the table of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prep.facts.gather import PairFacts
from prep.tiles.leakage import Fingerprint, Leak
from prep.tiles.overlaps.sharing import Overlap
from prep.tiles.pairs import Candidate
from prep.tiles.squares import Cut, Field
from store.pairs.table import Pair, Skipped, Table
from store.schema import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The pairs that can be stored and the bad ones, the side of every tile in px, notes for a person.

    `left_out` are pairs that settings exclude, which is no fault of theirs; `table.skipped` ends with them. `leaks` are
    the pictures of held-out splits that are also in another one, `overlaps` the tiles that share pixels with one of
    another split. `cut` says what was cut from larger pictures. `to_cut`
    are the shortest sides of the pictures whose shape makes them bad.
    """

    table: Table
    tile_side: int
    notes: tuple[str, ...]
    left_out: tuple[Skipped, ...]
    leaks: tuple[Leak, ...]
    overlaps: tuple[Overlap, ...]
    facts: Mapping[Split, Sequence[PairFacts]]
    cut: Cut
    to_cut: tuple[int, ...]

    @property
    def bad(self) -> tuple[Skipped, ...]:
        """The skipped pairs that have a fault."""
        return self.table.skipped[: len(self.table.skipped) - len(self.left_out)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundPair:
    """A pair whose pictures were read completely and agree with each other."""

    candidate: Candidate
    pair: Pair
    side: int
    field: Field
    notes: tuple[tuple[str, str], ...]  # source name, what was converted
    prints: tuple[Fingerprint, Fingerprint]  # H&E, IHC
    facts: PairFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """A bad pair that squares could be cut from: its shortest side is `side` px."""

    skipped: Skipped
    side: int


Inspected = tuple[SoundPair | Misfit | Skipped, ...]  # of one candidate: one for each tile cut from its pictures
