"""The names of the feature networks and of the ways to read a picture with them; the weight file of each network."""

from __future__ import annotations

from enum import StrEnum

from store.weights import WEIGHT_FILES, WeightFile


class Network(StrEnum):
    """A network whose features are compared."""

    ALEX = "alex"
    VGG = "vgg"
    RESNET = "resnet50"
    PORTED_INCEPTION = "inception of pytorch-fid"
    INCEPTION = "inception of torchvision"


FILES: dict[Network, WeightFile] = {
    Network.ALEX: WEIGHT_FILES["alexnet-owt-7be5be79.pth"],
    Network.VGG: WEIGHT_FILES["vgg16-397923af.pth"],
    Network.RESNET: WEIGHT_FILES["resnet50-0676ba61.pth"],
    Network.PORTED_INCEPTION: WEIGHT_FILES["pt_inception-2015-12-05-6726825d.pth"],
    Network.INCEPTION: WEIGHT_FILES["inception_v3_google-0cc3c7bd.pth"],
}


class Reading(StrEnum):
    """A way to turn a picture into vectors: a network, and how the picture is brought to it."""

    FID = "pytorch-fid's Inception at 299 px, bilinear without antialiasing"
    FID_ANTIALIASED = "pytorch-fid's Inception at 299 px, bilinear with antialiasing"
    KID_TORCHVISION = "torchvision's Inception at 299 px, bilinear without antialiasing"
    PHV_HALF_RANGE = "ResNet-50, [0,1] taken for [-1,1] before ImageNet's mean and deviation"
    PHV = "ResNet-50, ImageNet's mean and deviation"
