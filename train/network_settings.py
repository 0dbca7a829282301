"""Every knob of the networks. A default is the published value or the recommended reading, with its source.

G, L and E numbers are the open questions of the paper's text as listed in `train/README.md`. Kernels are pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from store.schema import FORBID_UNKNOWN, SettingsError
from train.choices import AtTest, Gate, Join, Levels, Network, Norm, Order, Resampling, Width


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """The attention-based multi-magnification feature interaction module (AMMFI)."""

    __pydantic_config__ = FORBID_UNKNOWN

    enabled: bool = True
    levels: Levels = Levels.P1  # G7
    kernel: int = 3  # G6: the figure's caption; 1 as in Attention U-Net
    width: Width = Width.HALF  # G9
    gate: Gate = Gate.ELEMENTWISE  # G11
    order: Order = Order.ONCE  # G10
    join: Join = Join.CONCAT  # G12
    norm: Norm = Norm.INSTANCE  # G4: at batch 1 the same function as the caption's batch norm in training mode
    spectral: bool = False  # G5
    relu: bool = False  # G14: eq. (1) is affine
    reduction: int = 16  # G15: CBAM
    spatial_kernel: int = 7  # G15: CBAM

    def __post_init__(self) -> None:
        if self.kernel not in (1, 3):
            raise SettingsError(f"generator.attention.kernel = {self.kernel}: must be 1 or 3")
        if self.spatial_kernel % 2 == 0 or self.spatial_kernel < 1:
            raise SettingsError(f"generator.attention.spatial_kernel = {self.spatial_kernel}: must be odd, e.g. 7")
        if self.reduction < 1:
            raise SettingsError(
                f"generator.attention.reduction = {self.reduction}: channels are divided by it, so at least 1, e.g. 16"
            )


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings:
    """ResNet of the ASP launcher with the paper's stem, or the U-Net of pix2pix, which has `depth` halvings."""

    __pydantic_config__ = FORBID_UNKNOWN

    network: Network = Network.RESNET
    base: int = 64  # ASP launcher: ngf
    blocks: int = 6  # ASP launcher: resnet_6blocks
    depth: int = 8  # pix2pix: unet_256; 7 for 128 px
    stem: int = 3  # G1: the paper's text; 7 is the published ResNet
    output: int = 7  # G2
    resampling: Resampling = Resampling.BLURRED  # ASP launcher: no_antialias false
    norm: Norm = Norm.INSTANCE  # G3
    spectral: bool = True  # ASP launcher: weight_norm spectral
    dropout: bool = False  # ASP launcher: no_dropout
    at_test: AtTest = AtTest.EVALUATION  # E6: instance norm does not change by it
    attention: AttentionSettings = field(default_factory=AttentionSettings)

    def __post_init__(self) -> None:
        for name, value in (("stem", self.stem), ("output", self.output)):
            if value not in (3, 7):
                raise SettingsError(f"generator.{name} = {value}: must be 3 or 7")
        if self.base < 4 or self.blocks < 5:
            raise SettingsError(
                f"generator.base = {self.base}, blocks = {self.blocks}: base must be at least 4, and blocks at least 5 "
                "because PatchNCE taps the fifth"
            )
        if self.depth < 5:
            raise SettingsError(f"generator.depth = {self.depth}: the U-Net has at least 5 levels; 8 as published")


@dataclass(frozen=True, kw_only=True)
class DiscriminatorSettings:
    """PatchGAN of the ASP launcher."""

    __pydantic_config__ = FORBID_UNKNOWN

    base: int = 32  # ASP launcher: ndf
    layers: int = 5  # L3
    resampling: Resampling = Resampling.BLURRED  # ASP launcher: no_antialias false
    norm: Norm = Norm.INSTANCE  # ASP launcher: normD
    spectral: bool = True  # ASP launcher: weight_norm spectral
    conditional: bool = False  # L2: ASP's sees the IHC alone, pix2pix's H&E and IHC

    def __post_init__(self) -> None:
        if self.base < 1 or self.layers < 1:
            raise SettingsError(
                f"discriminator.base = {self.base}, layers = {self.layers}: both must be at least 1, e.g. 32 and 5"
            )
