"""Every knob of preparation on one page. Sides and margins are pixels; `mpp` is micrometres per pixel of the tile.

R and M numbers are the readings of the paper's text explained in `prep/README.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from store.schema import FORBID_UNKNOWN, Codec, SettingsError


class Recipe(StrEnum):
    """Which zooms are cut from which picture."""

    PAPER = "paper"
    NATIVE = "native"
    WIDE = "wide"


class Enlarger(StrEnum):
    """Who enlarges a patch: BSRGAN as in the paper, or Lanczos, a stand-in that is never taken unasked."""

    BSRGAN = "bsrgan"
    LANCZOS = "lanczos"


class Device(StrEnum):
    """Where the super-resolution network runs; `auto` takes a GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """Arithmetic of the super-resolution network; `auto` is the fastest that is close enough to fp32 on the device."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class SplitRule(StrEnum):
    """The split that comes with the data, or one in which every slide stands on one side."""

    PUBLISHED = "published"
    BY_SLIDE = "by-slide"


class Layout(StrEnum):
    """How a data folder is laid out; `auto` tells from the names of its folders."""

    AUTO = "auto"
    MIST = "mist"
    BCI = "bci"
    FOLDERS = "folders"
    SIDE_BY_SIDE = "side-by-side"


@dataclass(frozen=True, kw_only=True)
class PrepSettings:
    """What a store is made of."""

    __pydantic_config__ = FORBID_UNKNOWN

    name: str = ""  # of the data set; the data folder's name if empty
    stain: str = "IHC"  # the marker: HER2, ER, PR, Ki67, …
    layout: Layout = Layout.AUTO
    recipe: Recipe = Recipe.PAPER  # M2: R1 as written in the paper
    view_side: int = 512  # M1: the baseline's crop
    boxes: int = 1  # M7: boxes per pair and zoom
    margin: int = 16  # real neighbours around a patch while it is enlarged
    mpp: float = 0.0  # 0.4661 for MIST; 0 is unknown
    upscaler: Enlarger = Enlarger.BSRGAN
    device: Device = Device.AUTO  # what was taken is stored, and a build goes on with what it was begun with
    precision: Precision = Precision.AUTO  # the same; fp16 on a GPU, bf16 or fp32 on a CPU: measured in prep/README.md
    batch: int = 4  # patches enlarged at once; never across units
    split: SplitRule = SplitRule.PUBLISHED
    val_fraction: float = 0.0  # of the training pairs, held out by slide
    test_fraction: float = 0.2  # of all pairs, used when the split is made by slide
    slide_pattern: str = ""  # regular expression whose first group is the slide; the layout's default if empty
    seed: int = 0
    keep_tiles: bool = True  # tiles of train as delivered: native crops are cut from them
    unit: int = 16  # pairs that are written and committed together
    codec: Codec = Codec.PORTABLE  # compact: lossless too, 2/5 fewer bytes, ten times the reading; needs an extra

    def __post_init__(self) -> None:
        for name, value, least in (
            ("view_side", self.view_side, 16),
            ("boxes", self.boxes, 1),
            ("margin", self.margin, 0),
            ("mpp", self.mpp, 0),
            ("batch", self.batch, 1),
            ("unit", self.unit, 1),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise SettingsError(f"{name} = {value}: must be at least {least}")
        for name, share in (("val_fraction", self.val_fraction), ("test_fraction", self.test_fraction)):
            if not 0 <= share < 1:
                raise SettingsError(f"{name} = {share}: must be at least 0 and below 1")
