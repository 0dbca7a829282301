"""Every setting of a translation on one page. Lengths are pixels of the picture that goes through the generator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from store.schema import FORBID_UNKNOWN, SettingsError
from train.settings import Precision


class NormStatistics(StrEnum):
    """Which statistics the norm layers and the channel attention of a generator use for a tile of a larger picture.

    `tile`: its own. `thumbnail`: those of the whole picture in small (TIN), `kernel`: means over its neighbours (KIN);
    Ho, Chao, Chou: Ultra-high-resolution unpaired stain transformation via kernelized instance normalization, ECCV
    2022. `global`: those of a sample of tiles, the same everywhere. `local`: those of the tiles around each pixel,
    interpolated from centre to centre, after Ho et al.: Every pixel has its moments: ultra-high-resolution unpaired
    image-to-image translation via dense normalization, ECCV 2024.
    """

    TILE = "tile"
    THUMBNAIL = "thumbnail"
    KERNEL = "kernel"
    GLOBAL = "global"
    LOCAL = "local"


class Kernel(StrEnum):
    """The weights of a tile's neighbours in `kernel`."""

    CONSTANT = "constant"
    GAUSSIAN = "gaussian"


class Compression(StrEnum):
    """How tiles of an OME-TIFF are packed: without loss, or as JPEG for looking at."""

    DEFLATE = "deflate"
    JPEG = "jpeg"


@dataclass(frozen=True, kw_only=True)
class TranslateSettings:
    """How pictures are translated. A picture that fits into one tile has its own statistics, as in `predict`."""

    __pydantic_config__ = FORBID_UNKNOWN

    norm_statistics: NormStatistics = NormStatistics.GLOBAL
    tile: int = 1024  # side of a tile's core; with its overlap it goes through the generator at once
    overlap: int = -1  # on each side of the core; -1: the reach of the generator
    batch: int = 1  # tiles at once
    kernel: Kernel = Kernel.CONSTANT  # KIN: constant
    kernel_side: int = 3  # KIN: 3 x 3 tiles
    sample: int = 16  # tiles of tissue from which `global` learns
    seed: int = 0  # of the sample, and of dropout
    precision: Precision = Precision.FP32
    threads: int = 0  # of each process, on the CPU; 0: one for each core. Rounding depends on it
    memory: float = 0.0  # GiB for pictures that are decoded as a whole and for read parts; 0: a quarter of what is free
    compression: Compression = Compression.DEFLATE
    quality: int = 90  # of JPEG

    def __post_init__(self) -> None:
        if self.tile < 64 or self.tile % 16:
            below = max(64, self.tile // 16 * 16)
            raise SettingsError(
                f"tile = {self.tile}: a multiple of 16, at least 64 px, such as {below} or {below + 16}"
            )
        if self.overlap < -1:
            raise SettingsError(f"overlap = {self.overlap}: at least 0 px, or -1 for the reach of the generator")
        if self.batch < 1 or self.sample < 1:
            raise SettingsError(f"batch = {self.batch}, sample = {self.sample}: both are at least 1, e.g. 1 and 16")
        if self.threads < 0:
            raise SettingsError(f"threads = {self.threads}: at least 1, or 0 for one on each core")
        if self.kernel_side < 1 or self.kernel_side % 2 == 0:
            raise SettingsError(f"kernel_side = {self.kernel_side}: an odd number of tiles, e.g. 3")
        if not 0 <= self.seed < 2**63 or not 0 <= self.memory < 2**20:
            raise SettingsError(
                f"seed = {self.seed}, memory = {self.memory}: the seed must be in [0, 2^63), the GiB at least 0"
            )
        if not 1 <= self.quality <= 100:
            raise SettingsError(f"quality = {self.quality}: between 1 and 100, e.g. 90")
