"""The rows of a store: pairs, skipped pairs, and the table of both. Boxes are in pixels of the source pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import hypot

from store.schema import Box, SchemaError, Split, check_name
from store.untrusted.names import PICTURE, clash, text_fault

SLIDES_SHOWN = 60  # of a split, in a text


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Where the IHC tile shows what the H&E tile shows: so many px further `down` and to the `right`, as estimated."""

    down: int
    right: int
    percent: int  # of confidence

    @property
    def confidence(self) -> float:
        """How far the estimate can be trusted, from 0, where it says nothing, to 1."""
        return self.percent / 100

    @property
    def distance(self) -> float:
        """The length of the shift in px."""
        return hypot(self.down, self.right)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One H&E and one IHC tile of the same place; a row of the pair table.

    `id` is the tile's name without the folder of its split and without suffix, unique within a split. `he` and `ihc`
    are the names of the source files relative to the data folder, the digests their sha256 in hex.

    `he_box` and `ihc_box` are the squares of the source pictures that the tiles are, in their pixels, where tiles were
    cut; `registration` is there if it was measured.
    """

    id: str
    slide: str
    he: str
    ihc: str
    he_digest: str
    ihc_digest: str
    he_box: Box | None = None
    ihc_box: Box | None = None
    registration: Registration | None = None

    def __post_init__(self) -> None:
        check_name(self.id, "pair", PICTURE)
        check_name(self.he, "H&E tile")
        check_name(self.ihc, "IHC tile")
        if fault := text_fault(self.slide):
            raise SchemaError(f"slide {self.slide!r} of pair {self.id!r} {fault}; use a word")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A bad pair that was skipped on request (`--skip-bad`), and the reason."""

    id: str
    split: Split
    he: str
    ihc: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The pairs of every split in the order of their rows, and the skipped ones."""

    pairs: dict[Split, tuple[Pair, ...]]
    skipped: tuple[Skipped, ...] = field(default=())

    def __post_init__(self) -> None:
        for split, pairs in self.pairs.items():
            check_distinct((pair.id for pair in pairs), f"pairs of {split}")

    @property
    def slides(self) -> dict[Split, frozenset[str]]:
        """The slides of every split."""
        return {split: frozenset(pair.slide for pair in pairs) for split, pairs in self.pairs.items()}

    @property
    def leaking(self) -> tuple[str, ...]:
        """The slides in more than one split, sorted: a test set that holds them is seen in training (leakage).

        >>> pair = Pair(id="a", slide="s", he="a.png", ihc="b.png", he_digest="", ihc_digest="")
        >>> Table(pairs={Split.TRAIN: (pair,), Split.TEST: (pair,)}).leaking
        ('s',)
        """
        found = Counter(slide for slides in self.slides.values() for slide in slides)
        return tuple(sorted(slide for slide, splits in found.items() if splits > 1))


def check_distinct(names: Iterable[str], what: str) -> None:
    """Raise SchemaError unless each name, with `.png` added to it, is a file of its own on every disk."""
    if fault := clash(names):
        raise SchemaError(f"{what}: {fault}; give each another name")


def describe_slides(pairs: Sequence[Pair]) -> str:
    """The slides of pairs by name, each with the number of its tiles; of very many the first.

    >>> pair = Pair(id="a", slide="s", he="a.png", ihc="b.png", he_digest="", ihc_digest="")
    >>> describe_slides([pair, pair])
    's (2)'
    """
    tiles = Counter(pair.slide for pair in pairs)
    if len(tiles) == len(pairs) > SLIDES_SHOWN:
        return "each tile counts as a slide"
    listed = ", ".join(f"{slide} ({tiles[slide]})" for slide in sorted(tiles)[:SLIDES_SHOWN])
    return listed + (f", and {len(tiles) - SLIDES_SHOWN} more" if len(tiles) > SLIDES_SHOWN else "")
