"""The facts of a store, and the tree of errors that a user can correct.

Lengths are pixels, boxes are in tile pixels, `mpp` is micrometres per pixel. Pure: touches no file and no device.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum

from store.untrusted.names import name_fault

FORMAT = 1
FORBID_UNKNOWN = {"extra": "forbid"}  # what pydantic does with a key that a class does not have


class MagstainError(Exception):
    """What a user can correct. The command line prints it as one line and exits with code 2."""


class SchemaError(MagstainError):
    """A fact that contradicts a rule of the format."""


class SettingsError(MagstainError):
    """A setting that does not exist, has the wrong type or does not go with another."""


class PictureError(MagstainError):
    """A picture file that cannot be read as 8-bit RGB without loss."""


class LargePictureError(PictureError):
    """A picture that has more pixels than a tile may have, and squares of which may be tiles."""


class PairingError(MagstainError):
    """Tiles that do not form pairs."""


class StoreError(MagstainError):
    """A store that is missing, unfinished, damaged, not made by magstain, or cannot be written."""


class WeightsError(MagstainError):
    """A weight file that is missing or has the wrong size or digest."""


class RunError(MagstainError):
    """A run folder that is missing, unfinished or made with other settings."""


class Interrupted(Exception):  # noqa: N818 - not an error: the work so far is saved
    """A request to stop was followed; the work so far is saved, and the same command resumes it."""


class Split(StrEnum):
    """Which part of a data set a pair belongs to."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class Stain(StrEnum):
    """The two pictures of a pair: `he` is the input of a generator, `ihc` its target."""

    HE = "he"
    IHC = "ihc"

    @property
    def spoken(self) -> str:
        """As people write it."""
        return "H&E" if self is Stain.HE else "IHC"


class Source(StrEnum):
    """What a view is cut from: the tile downsampled to `view_side`, or the tile as delivered."""

    FIELD = "field"
    NATIVE = "native"


class Codec(StrEnum):
    """How pictures are packed: by Zarr's core codecs, which every reader has, or as lossless JPEG-XL."""

    PORTABLE = "portable"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A square window on a tile, in tile pixels."""

    top: int
    left: int
    side: int

    def __post_init__(self) -> None:
        if self.top < 0 or self.left < 0 or self.side < 1:
            raise SchemaError(f"box {self}: the corner must be >= 0 and the side >= 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """`count` pictures of a pair at one zoom: boxes of side tile/zoom of `source`, brought to the view side."""

    __pydantic_config__ = FORBID_UNKNOWN

    zoom: int
    source: Source
    count: int = 1

    def __post_init__(self) -> None:
        if self.zoom < 1 or self.count < 1:
            raise SchemaError(f"view {self}: zoom and count must be at least 1")
        if self.zoom == 1 and self.count > 1:
            raise SchemaError(f"view x1 shows the whole tile: {self.count} boxes give the same picture; use 1")

    @property
    def name(self) -> str:
        """The name of its group in the store: x1, x2, x4."""
        return f"x{self.zoom}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """A super-resolution network that was given as a file: its scale is the factor by which it enlarges.

    `licence` is that of the weights, or "unknown".
    """

    __pydantic_config__ = FORBID_UNKNOWN

    architecture: str
    file: str
    scale: int
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscaler:
    """What enlarged the views: its name, and for each factor the sha256 of the weights (none for a plain filter).

    `networks` says for each factor which file has these weights, where it is not BSRGAN's; the name is theirs then.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    name: str
    digests: dict[str, str]
    precision: str
    batch: int
    kernels: str = ""  # of a network, if they are not the plain ones of its library
    networks: dict[str, NetworkFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a store is; its root attribute `manifest`. Holds nothing that depends on workers, hosts or time.

    `leakage` counts the pictures of a held-out split that are also in another one, `overlaps` the tiles that share
    pixels with one of another split, where that was allowed. Where the stains are not `paired`, `tiles` counts those of
    each, and a split has as many rows as its more frequent stain.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    format: int
    name: str
    stain: str
    synthetic: bool
    tile_side: int
    view_side: int
    recipe: str
    views: tuple[View, ...]
    keep_tiles: bool
    margin: int
    mpp: dict[str, float]
    upscaler: Upscaler
    unit: int
    counts: dict[Split, int]
    skipped: int
    split: str
    seed: int
    settings: dict[str, object]
    software: dict[str, str]
    codec: Codec = Codec.PORTABLE
    leakage: dict[Split, dict[Stain, int]] = field(default_factory=dict)
    overlaps: dict[Split, int] = field(default_factory=dict)
    paired: bool = True  # whether the H&E and the IHC of a row show one place
    tiles: dict[Split, dict[Stain, int]] = field(default_factory=dict)
    sealed: bool = False
    seal: str = ""

    def __post_init__(self) -> None:
        if min(self.tile_side, self.view_side, self.unit, *self.counts.values()) < 1:
            raise SchemaError(
                f"manifest of {self.name!r}: tile side {self.tile_side} px, view side {self.view_side} px, unit "
                f"{self.unit} and pairs {dict(self.counts)} must all be at least 1; omit a split that has no pairs"
            )
        zooms = [view.zoom for view in self.views]
        if not zooms or len(set(zooms)) < len(zooms):
            raise SchemaError(f"manifest of {self.name!r}: zooms {zooms}: give at least one, and none twice")
        rows = {split: max(tiles.values(), default=0) for split, tiles in self.tiles.items()}
        complete = all(tiles.keys() == set(Stain) and min(tiles.values()) >= 0 for tiles in self.tiles.values())
        if not complete or rows != ({} if self.paired else self.counts):
            raise SchemaError(
                f"manifest of {self.name!r}: tiles {json.dumps(self.tiles)} of {json.dumps(self.counts)} rows, "
                f"paired = {self.paired}: unpaired, a split has as many rows as tiles of its more frequent stain; "
                "paired, tiles are not counted"
            )

    def view(self, name: str) -> View:
        """The view called `name` (x1, x2, x4)."""
        for view in self.views:
            if view.name == name:
                return view
        raise StoreError(f"no view {name!r} in this store; it has {', '.join(v.name for v in self.views)}")

    def tiles_of(self, split: Split, stain: Stain) -> int:
        """How many tiles of a stain a split has; they are in its first rows."""
        return self.counts.get(split, 0) if self.paired else self.tiles.get(split, {}).get(stain, 0)

    def has_tiles(self, split: Split) -> bool:
        """Whether the tiles as delivered are stored: always in val and test, in train if `keep_tiles`."""
        return self.keep_tiles or split is not Split.TRAIN


def check_name(name: str, what: str, ending: str = "") -> None:
    """Raise SchemaError unless a name, to which `ending` will be added, can be a file below a folder on every disk."""
    if fault := name_fault(name, ending):
        raise SchemaError(f"{what} {name!r} {fault}; give it another name")
