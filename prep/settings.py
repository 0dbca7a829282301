"""Every setting of preparation on one page. Sides and margins are pixels; `mpp` is micrometres per pixel of the tile.

R and M numbers are the readings of the paper's text that `prep/README.md` explains.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from enum import StrEnum

from store.schema import FORBID_UNKNOWN, Codec, SettingsError
from store.settings import plain

BATCH = 4  # of a CPU, and of stores that were made before it was chosen


class Recipe(StrEnum):
    """Which zooms there are, and whether they are cut from the downsampled tile or from the tile as delivered."""

    PAPER = "paper"
    NATIVE = "native"
    WIDE = "wide"


class Enlarger(StrEnum):
    """What enlarges a patch: BSRGAN as in the paper; on request Lanczos interpolation, or networks given as files."""

    BSRGAN = "bsrgan"
    LANCZOS = "lanczos"
    FILE = "file"


class Device(StrEnum):
    """Where the super-resolution network runs; `auto` is a GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """Arithmetic of the super-resolution network; `auto` is the fastest that is close enough to fp32 on the device."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Kernels(StrEnum):
    """How the blocks of the super-resolution network are computed; `auto` is what is fastest on the device and runs."""

    AUTO = "auto"
    PLAIN = "plain"  # as PyTorch has it, all windows of a batch at once
    SINGLE = "single"  # the same, one window after the other
    COMPILED = "compiled"  # by torch.compile
    TRITON = "triton"  # by kernels of this program


class SplitRule(StrEnum):
    """The split that comes with the data, or one in which no slide occurs in two splits."""

    PUBLISHED = "published"
    BY_SLIDE = "by-slide"


class Edge(StrEnum):
    """What happens to the rest of a picture at its right and lower edge, which is narrower than a square."""

    DROP = "drop"  # it is in no tile
    SHIFT = "shift"  # the last square is moved inward until it ends at the edge, and shares pixels with the one before


class Align(StrEnum):
    """How the IHC of a pair is moved before its tile is cut, by the shift that was measured."""

    NONE = "none"
    SHIFT = "shift"  # by whole pixels, where the estimate can be trusted


class Layout(StrEnum):
    """How a data folder is laid out; `auto` reads it from the names of its folders."""

    AUTO = "auto"
    MIST = "mist"
    BCI = "bci"
    SPLIT_FIRST = "split-first"
    FOLDERS = "folders"
    SIDE_BY_SIDE = "side-by-side"
    BY_NAME = "by-name"  # with he_name and ihc_name
    TABLE = "table"  # with --pairs-from


@dataclass(frozen=True, kw_only=True)
class PrepSettings:
    """What a store is made from."""

    __pydantic_config__ = FORBID_UNKNOWN

    name: str = ""  # of the data set; empty: the name of the data folder
    stain: str = "IHC"  # the marker: HER2, ER, PR, Ki67, …
    terms: str = ""  # of use of the data, in words, for the data card; empty: what a file beside the tiles says
    layout: Layout = Layout.AUTO
    paired: bool = True  # false: the tiles of the two stains are of different places, for CUT and CycleGAN
    he_name: str = ""  # of H&E pictures without suffix, {} being the id of the pair: {}_HE; empty: the id alone
    ihc_name: str = ""  # of IHC pictures: {}_IHC
    ignore_case: bool = False  # pair names that differ in upper and lower case only; the id is that of the H&E
    tile_side: int = 0  # of the squares that are cut from pictures of any size; 0: each picture is one tile
    stride: int = 0  # from one square to the next; 0: tile_side
    edge: Edge = Edge.DROP  # of pictures that are no whole number of squares; never padding
    registration: bool = False  # measure how far the two pictures of each pair are apart; implied by the next three
    max_shift: int = 0  # px: pairs that are further apart are left out; 0: none is
    min_confidence: float = 0.0  # pairs whose estimate is less certain are left out; 0: none is
    align: Align = Align.NONE
    recipe: Recipe = Recipe.PAPER  # M2: R1 as written in the paper
    view_side: int = 512  # M1: the side of the baseline's crops
    boxes: int = 1  # M7: boxes per pair and zoom
    margin: int = 16  # of real pixels around a patch while it is enlarged, cut off afterwards
    mpp: float = 0.0  # 0.4661 for MIST; 0 is unknown
    upscaler: Enlarger = Enlarger.BSRGAN
    upscaler_file: str = ""  # the network of upscaler = file, or two of them, x2 and x4, with a comma between
    upscaler_licence: str = ""  # of its weights, such as BSD-3-Clause; empty: what is found in or beside the file
    device: Device = Device.AUTO  # the device that is used is stored, and a build that is resumed keeps it
    precision: Precision = Precision.AUTO  # as device; fp16 on a GPU, bf16 or fp32 on a CPU: measured in prep/README.md
    kernels: Kernels = Kernels.AUTO  # as device; plain on a CPU; on a GPU compiled, in fp32 single
    batch: int = 0  # patches enlarged at once, never across units; 0, as device: 4 on a CPU, up to 16 on a GPU
    split: SplitRule = SplitRule.PUBLISHED
    val_fraction: float = 0.0  # of the pairs of train, held out by slide
    test_fraction: float = 0.2  # of all pairs, read when split = by-slide
    test_slides: tuple[str, ...] = ()  # the slides of test by name, with split = by-slide; none: drawn by test_fraction
    val_slides: tuple[str, ...] = ()  # the slides of val by name; none: drawn by val_fraction
    name_stride: int = 0  # px between rows and columns of <slide>_<row>_<column>, to know what overlaps; 0: not known
    slide_pattern: str = ""  # regular expression whose first group is the slide; empty: <slide>_<row>_<column>
    allow_leakage: bool = False  # build although pictures are in two splits; every table will say so
    seed: int = 0
    keep_tiles: bool = True  # keep the tiles of train as delivered: the baseline trains on crops of them
    unit: int = 16  # pairs that are written and committed together
    codec: Codec = Codec.PORTABLE  # compact: lossless too, 2/5 fewer bytes, read ten times slower

    def __post_init__(self) -> None:
        for name, value, least in (
            ("tile_side", self.tile_side, 0),
            ("stride", self.stride, 0),
            ("name_stride", self.name_stride, 0),
            ("max_shift", self.max_shift, 0),
            ("view_side", self.view_side, 16),
            ("boxes", self.boxes, 1),
            ("margin", self.margin, 0),
            ("mpp", self.mpp, 0),
            ("batch", self.batch, 0),
            ("unit", self.unit, 1),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise SettingsError(f"{name} = {value}: must be at least {least}")
        for name, text in (("upscaler_file", self.upscaler_file), ("upscaler_licence", self.upscaler_licence)):
            if text and self.upscaler is not Enlarger.FILE:
                raise SettingsError(
                    f"{name} = {text}: this goes with upscaler = file, and upscaler = {self.upscaler}; give "
                    f"{how_to_set('upscaler=file')} as well, or leave it out"
                )
        for name, share in (("val_fraction", self.val_fraction), ("test_fraction", self.test_fraction)):
            if not 0 <= share < 1:
                raise SettingsError(f"{name} = {share}: must be at least 0 and below 1")
        if not 0 <= self.min_confidence <= 1:
            raise SettingsError(f"min_confidence = {self.min_confidence}: must be 0 to 1, for example 0.5")
        if self.registers and not self.paired:
            raise SettingsError(
                "paired = false with registration, max_shift, min_confidence or align: these measure how far the two "
                "pictures of a pair are apart, and there are no pairs; leave them away, or set "
                f"{how_to_set('paired=true')}"
            )
        if self.stride and not self.tile_side:
            raise SettingsError(
                f"stride = {self.stride} is from one square to the next, and tile_side = 0 cuts none; give the side of "
                f"the squares, for example {how_to_set('tile_side=512')}, or say how far tiles that are delivered as "
                f"<slide>_<row>_<column> are apart: {how_to_set(f'name_stride={self.stride}')}"
            )
        if self.edge is Edge.SHIFT and not self.tile_side:
            raise SettingsError(
                "edge = shift moves squares that are cut, and tile_side = 0 cuts none; give the side of the squares, "
                f"for example {how_to_set('tile_side=512')}"
            )
        if self.test_slides and self.split is not SplitRule.BY_SLIDE:
            raise SettingsError(
                f"test_slides = {list(self.test_slides)} chooses the test set, and split = {self.split} takes the one "
                f"that comes with the data; choose one of them, for example {how_to_set('split=by-slide')}"
            )
        if both := sorted({*self.test_slides} & {*self.val_slides}):
            raise SettingsError(f"slide {both[0]!r} is in test_slides and in val_slides; name it in one of them")

    @property
    def registers(self) -> bool:
        """Whether the shift of every pair is measured."""
        return bool(self.registration or self.max_shift or self.min_confidence or self.align is not Align.NONE)


# settings that came later, and the value of each that leaves the bytes of a store as they were before it
_BEFORE: dict[str, object] = {
    "paired": True,
    "allow_leakage": False,
    "he_name": "",
    "ihc_name": "",
    "ignore_case": False,
    "kernels": Kernels.PLAIN,
    "terms": "",
    "tile_side": 0,
    "stride": 0,
    "name_stride": 0,
    "edge": Edge.DROP,
    "registration": False,
    "max_shift": 0,
    "min_confidence": 0.0,
    "align": Align.NONE,
    "test_slides": [],
    "val_slides": [],
    "upscaler_file": "",  # never recorded: the place of a file is a matter of the machine; the manifest has its digest
    "upscaler_licence": "",
}


def recorded(settings: PrepSettings) -> dict[str, object]:
    """The settings as a manifest holds them: those that came later only if they are not as before."""
    decided = replace(
        settings,
        upscaler_file="",
        kernels=Kernels.PLAIN if settings.kernels is Kernels.AUTO else settings.kernels,
        batch=settings.batch or BATCH,
        registration=settings.registers,
    )
    return {name: value for name, value in plain(decided).items() if name not in _BEFORE or value != _BEFORE[name]}


def how_to_set(*settings: str) -> str:
    r"""How a person gives these settings, as a command line and as make want them.

    >>> how_to_set("device=cpu", "precision=fp32")
    '--set device=cpu --set precision=fp32 (make: SET="device=cpu precision=fp32")'
    >>> how_to_set("slide_pattern=^(.*)_y")
    "--set 'slide_pattern=^(.*)_y' (make: SET='slide_pattern=^(.*)_y')"
    >>> print(how_to_set('test_slides=["s 1"]'))
    --set 'test_slides=["s 1"]' (make: SET="'test_slides=[\"s 1\"]'")
    """
    typed = " ".join(f"--set {shlex.quote(setting)}" for setting in settings)
    words = [f"'{one}'" if set(one) & {" ", '"'} and "'" not in one else one for one in settings]  # as make reads them
    made = shlex.quote(words[0]) if words == [settings[0]] else '"' + " ".join(words).replace('"', '\\"') + '"'
    return f"{typed} (make: SET={made})"
