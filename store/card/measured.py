"""What a build measured on the pictures of a store, by fixed rules; the rest of a data card is in the store's tables.

Densities are decadic optical densities, scales micrometres per pixel, names those of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

from store.schema import SchemaError, Split, Stain

RULES = 1  # of measuring: another number, other thresholds or another hash
NAMED = 1000  # names in a list
GLASS_LEVEL, GLASS_SPREAD = 220, 30  # a pixel of glass: every channel at least, all channels within
GLASS_SHARE = 0.9  # of a tile that is nearly glass
HASH_BITS = 6  # of 63 that may differ in two pictures of one place
DENSITY_STEP, DENSITY_STEPS = 0.05, 12  # of a histogram; its last step is open


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """How many there are, and the names of the first of them."""

    count: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Glass:
    """The tiles of a stain that have one colour to the last bit, and those that are nearly glass."""

    one_colour: Named
    nearly: Named


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """The mean over all tiles, and how many tiles have which mean density."""

    mean: float
    tiles: tuple[int, ...]

    def __post_init__(self) -> None:
        if min(self.tiles, default=0) < 0 or not sum(self.tiles):
            raise SchemaError(f"{list(self.tiles)} tiles by their density: numbers are at least 0, and one is above")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A picture of a held-out split that looks like one of a split before it: `bits` of the hash differ.

    `turned` says whether one is turned or mirrored against the other.
    """

    split: Split
    stain: Stain
    name: str
    other: Split
    original: str
    bits: int
    turned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """What the two files of these pairs say about their colours; empty where a file says nothing.

    `differ` says whether they say different things, where nothing is the same as sRGB.
    """

    he: str
    ihc: str
    differ: bool
    pairs: Named


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The scale that so many source pictures of a stain state, and where; 0 where they state none."""

    stain: Stain
    mpp: float
    where: str
    pictures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsFile:
    """A file of the data folder that holds terms of use: its name, its first line with words, its sha256."""

    name: str
    line: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that was measured. A field that came later has the value that means unknown."""

    rules: int
    sources: dict[Stain, dict[str, int]]  # how many source pictures have which size
    scales: tuple[Scale, ...]
    glass: dict[Split, dict[Stain, Glass]]
    densities: dict[Split, dict[Stain, dict[str, Density]]]  # by the name of the substance
    copies: dict[Split, dict[Stain, int]]
    copies_named: tuple[Copy, ...]
    colours: tuple[Colour, ...]
    read_as: str  # how the data folder was read
    set_aside: tuple[str, ...]  # what was left in the data folder, in words
    terms: tuple[TermsFile, ...]
