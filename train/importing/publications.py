"""Whose checkpoints are taken, and which network each of them holds. Imports no PyTorch: a command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from train.settings import GeneratorSettings, Network, Norm, Resampling


class Published(StrEnum):
    """A method whose checkpoints are published."""

    CUT = "cut"
    CYCLEGAN = "cyclegan"
    PIX2PIX = "pix2pix"
    PYRAMID_P2P = "pyramid_p2p"
    ASP = "asp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """The network that a repository saves for a method, and the names of the files."""

    title: str
    repository: str
    files: str
    landmark: str
    """A tensor that every state dict of it has."""
    network: Network
    resampling: Resampling = Resampling.STRIDED
    spectral: bool = False

    def has(self, shape: GeneratorSettings) -> bool:
        """Whether a network of this shape is one of this publication."""
        resnet = shape.network is Network.RESNET
        return shape.network is self.network and (
            not resnet or (shape.resampling, shape.spectral) == (self.resampling, self.spectral)
        )


STEM, SPECTRAL_STEM = "model.1.weight", "model.1.weight_orig"
UNET_LANDMARK = "model.model.1.model.1.weight"  # no ResNet has it: its layer 0 is a padding
PUBLICATIONS = {
    Published.CUT: Publication(
        title="CUT",
        repository="CUT",
        files="*_net_G.pth",
        landmark=STEM,
        network=Network.RESNET,
        resampling=Resampling.BLURRED,
    ),
    Published.CYCLEGAN: Publication(
        title="CycleGAN",
        repository="pix2pix/CycleGAN",
        files="*_net_G_A.pth, *_net_G_B.pth or *_net_G.pth",
        landmark=STEM,
        network=Network.RESNET,
    ),
    Published.PIX2PIX: Publication(
        title="pix2pix",
        repository="pix2pix/CycleGAN",
        files="*_net_G.pth",
        landmark=UNET_LANDMARK,
        network=Network.UNET,
    ),
    Published.PYRAMID_P2P: Publication(
        title="Pyramid Pix2pix",
        repository="BCI",
        files="*_net_G.pth",
        landmark=STEM,
        network=Network.RESNET,
    ),
    Published.ASP: Publication(
        title="ASP",
        repository="ASP",
        files="*_net_G.pth",
        landmark=SPECTRAL_STEM,
        network=Network.RESNET,
        resampling=Resampling.BLURRED,
        spectral=True,
    ),
}


def fitting(shape: GeneratorSettings) -> list[Published]:
    """The publications that have networks of this shape, the likeliest by its norm first."""
    found = [method for method, publication in PUBLICATIONS.items() if publication.has(shape)]
    return found[::-1] if shape.norm is Norm.BATCH else found


def describe(shape: GeneratorSettings) -> str:
    """A network in words: "a strided ResNet with 9 blocks and 64 base channels, instance norm, no dropout"."""
    unet = shape.network is Network.UNET
    words = [
        f"a U-Net with {shape.depth} halvings" if unet else f"a {shape.resampling} ResNet with {shape.blocks} blocks",
        f" and {shape.base} base channels",
        ", spectral norm" if shape.spectral else "",
        f", {'no' if shape.norm is Norm.NONE else shape.norm} norm",
        f", {'dropout' if shape.dropout else 'no dropout'}",
    ]
    return "".join(words)
