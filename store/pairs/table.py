"""The rows of a store: pairs, skipped pairs, and the table of both. Boxes are in pixels of the source pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import hypot

from store.schema import Box, SchemaError, Split, Stain, check_name
from store.untrusted.names import PICTURE, clash, text_fault

SLIDES_SHOWN = 60  # of a split, in a text
NO_DIGEST = "0" * 64  # of a tile that is not there


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

    In an unpaired store a row is no pair: its IHC has an id (`ihc_id`) and a slide (`ihc_slide`) of its own, and one of
    the two tiles may not be there: its name is empty then, its digest NO_DIGEST.

    `he_box` and `ihc_box` are the squares of the source pictures that the tiles are, in their pixels, where tiles were
    cut; `registration` is there if it was measured: at the square of the H&E in both pictures, before the square of the
    IHC was moved.
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
    ihc_id: str = ""
    ihc_slide: str = ""

    def __post_init__(self) -> None:
        check_name(self.id, "pair", PICTURE)
        for name, digest, what in ((self.he, self.he_digest, "H&E tile"), (self.ihc, self.ihc_digest, "IHC tile")):
            if name or digest != NO_DIGEST:
                check_name(name, what)
        if not (self.he or self.ihc):
            raise SchemaError(f"row {self.id!r} has neither an H&E nor an IHC tile; give it one")
        if self.ihc_id:
            check_name(self.ihc_id, "IHC tile", PICTURE)
        for slide, tile in ((self.slide, self.he), (self.ihc_slide, self.ihc_id)):
            if (slide or tile) and (fault := text_fault(slide)):
                raise SchemaError(f"slide {slide!r} of pair {self.id!r} {fault}; use a word")

    def id_of(self, stain: Stain) -> str:
        """The id of the tile of a stain."""
        return self.ihc_id if stain is Stain.IHC and self.ihc_id else self.id

    def slide_of(self, stain: Stain) -> str:
        """The slide of the tile of a stain."""
        return self.ihc_slide if stain is Stain.IHC and self.ihc_id else self.slide

    def tile_of(self, stain: Stain) -> str:
        """The source file of the tile of a stain; empty if the row has none."""
        return self.he if stain is Stain.HE else self.ihc

    def digest_of(self, stain: Stain) -> str:
        """The digest of the source file of a stain."""
        return self.he_digest if stain is Stain.HE else self.ihc_digest

    @property
    def stains(self) -> tuple[Stain, ...]:
        """The stains that it has a tile of."""
        return tuple(stain for stain in Stain if self.tile_of(stain))

    @property
    def slides(self) -> frozenset[str]:
        """The slides of its tiles."""
        return frozenset(map(self.slide_of, self.stains))


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
        return {split: frozenset().union(*(pair.slides for pair in pairs)) for split, pairs in self.pairs.items()}

    @property
    def tiles(self) -> dict[Split, dict[Stain, int]]:
        """How many tiles of each stain every split has."""
        return {
            split: {stain: sum(stain in pair.stains for pair in pairs) for stain in Stain}
            for split, pairs in self.pairs.items()
        }

    @property
    def sizes(self) -> dict[Split, int]:
        """How many pairs every split has, or how many tiles of both stains if they are not paired."""
        return {split: sum(1 + bool(p.he and p.ihc_id) for p in pairs) for split, pairs in self.pairs.items()}

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


def describe_slides(pairs: Sequence[Pair], stain: Stain = Stain.HE) -> str:
    """The slides of pairs, or of the tiles of a stain, each with the number of its tiles; of very many the first.

    >>> pair = Pair(id="a", slide="s", he="a.png", ihc="b.png", he_digest="", ihc_digest="")
    >>> describe_slides([pair, pair])
    's (2)'
    """
    tiles = Counter(pair.slide_of(stain) for pair in pairs if pair.tile_of(stain))
    if len(tiles) == tiles.total() > SLIDES_SHOWN:
        return "each tile counts as a slide"
    listed = ", ".join(f"{slide} ({tiles[slide]})" for slide in sorted(tiles)[:SLIDES_SHOWN])
    return listed + (f", and {len(tiles) - SLIDES_SHOWN} more" if len(tiles) > SLIDES_SHOWN else "")
