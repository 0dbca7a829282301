"""What is compared with what, and how: two named, frozen sets of choices, written into every `scores.json`.

`published` reproduces the evaluation of the ASP repository: its 8-bit pictures, PSNR to the last digit, SSIM to 1e-10;
PHV, FID and KID to the printed digits, because features of networks are rounded differently. Its own KID has no seed
and takes files in the order of the disk, so no seed repeats a printed number. `corrected` is the measurement that we
recommend. Pictures are u8 [H,W,3] RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from store.weights import WEIGHT_FILES, WeightFile

ALL = 0  # a subset of this size is the whole set
THRESHOLD = 0.01  # ASP, evaluate.py: replaces the 0.005 of its class


class ProtocolName(StrEnum):
    """The two protocols."""

    PUBLISHED = "published"
    CORRECTED = "corrected"


class Fakes(StrEnum):
    """The folder of a run's predictions: rounded or truncated to 8 bits."""

    ROUNDED = "fake"
    TRUNCATED = "fake_truncated"


FAKE = Fakes.ROUNDED.value  # the row of the scored pictures


class Reference(StrEnum):
    """The real IHC picture: as it is in the store, or saved once more as the ASP repository does."""

    STORED = "stored"
    RESAVED = "resaved"


class Root(StrEnum):
    """How FID computes the trace of the square root of the product of both covariances."""

    SQRTM = "matrix square root"
    SINGULAR = "singular values"


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


class FeatureSpec(StrEnum):
    """How a picture becomes feature vectors: which network, and how the picture is prepared for it."""

    FID = "pytorch-fid's Inception at 299 px, bilinear without antialiasing"
    FID_ANTIALIASED = "pytorch-fid's Inception at 299 px, bilinear with antialiasing"
    KID_TORCHVISION = "torchvision's Inception at 299 px, bilinear without antialiasing"
    PHV_HALF_RANGE = "ResNet-50, [0,1] taken for [-1,1] before ImageNet's mean and deviation"
    PHV = "ResNet-50, ImageNet's mean and deviation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """Every choice that a number depends on.

    KID is the mean of `kid_subsets` random subsets of `kid_subset` pictures each; `kid_subset` 0 means one estimate
    over all pictures, and then `kid_subsets` is 1. It sees whole batches of `kid_batch` pictures in the order of the
    store: the remainder is dropped, unless there is no whole batch. `kid_first` is the set that each subset draws
    first; it is empty where none is drawn, and in scores that are older than this choice.
    """

    fakes: Fakes
    reference: Reference
    phv: FeatureSpec
    phv_threshold: float
    fid: FeatureSpec
    fid_root: Root
    kid: FeatureSpec
    kid_subsets: int
    kid_subset: int
    kid_seed: int
    kid_scale: float
    kid_batch: int = 1
    kid_first: str = ""
    lpips: str = "0.1, spatial mean at full size, trunks alex and vgg"
    ssim: str = "u8 RGB, 7x7 uniform window, mean over channels"
    psnr: str = "u8 RGB, mean of the pictures' dB"

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """The feature vectors that this protocol needs, each once."""
        return tuple(dict.fromkeys((self.phv, self.fid, self.kid)))


PUBLISHED = Protocol(
    fakes=Fakes.TRUNCATED,
    reference=Reference.RESAVED,
    phv=FeatureSpec.PHV_HALF_RANGE,
    phv_threshold=THRESHOLD,
    fid=FeatureSpec.FID,
    fid_root=Root.SQRTM,
    kid=FeatureSpec.KID_TORCHVISION,
    kid_subsets=100,
    kid_subset=100,
    kid_seed=0,
    kid_scale=1000.0,
    kid_batch=50,  # ASP, util/kid_score.py: batches of 50, `drop_last` by integer division
    kid_first="real pictures",  # ASP, util/kid_score.py: its codes_g, which are drawn first, are the real pictures
)
CORRECTED = Protocol(
    fakes=Fakes.ROUNDED,
    reference=Reference.STORED,
    phv=FeatureSpec.PHV,
    phv_threshold=THRESHOLD,
    fid=FeatureSpec.FID_ANTIALIASED,
    fid_root=Root.SINGULAR,
    kid=FeatureSpec.FID_ANTIALIASED,
    kid_subsets=1,
    kid_subset=ALL,
    kid_seed=0,
    kid_scale=1000.0,
)
PROTOCOLS: dict[ProtocolName, Protocol] = {
    ProtocolName.PUBLISHED: PUBLISHED,
    ProtocolName.CORRECTED: CORRECTED,
}

FIXES = (  # what `corrected` does differently, and why
    "pictures: rounded, compared with the real ones as delivered; published: truncated to 8 bits on both sides, which "
    "lowers a translated picture by half a grey level and real grey levels 1 to 63 by one",
    "PHV: input in [0,1] minus ImageNet's mean; published: the same input is treated as [-1,1], so the network sees "
    "half of the contrast",
    "FID: antialiased reduction to 299 px and the exact square root; published: no antialiasing, and a numerical root "
    "of singular matrices",
    "KID: FID's network and one unbiased estimate over all pictures; published: another network, the last incomplete "
    "batch of 50 pictures dropped, and 100 random subsets of 100 pictures, the real ones drawn first (without a seed "
    "there; here the legacy NumPy generator with seed 0)",
    "uncertainty: 95 % intervals over slides, under both protocols; the published evaluation reports none",
)


def resave(picture_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture read as float32 in [-1,1] and truncated to 8 bits again, as the ASP repository saves its `real_B`.

    Grey levels 1 to 63 become one lower; 0 and 64 to 255 do not change.

    >>> resave(np.array([0, 1, 63, 64, 255], np.uint8)).tolist()
    [0, 0, 62, 64, 255]
    """
    return _RESAVED[picture_u8]


def to_u8(levels: NDArray[np.floating], fakes: Fakes) -> NDArray[np.uint8]:
    """Grey levels, clipped to 0..255, as 8 bits: rounded, or truncated as the ASP repository saves a translation.

    >>> levels = np.array([-3.0, 1.0, 1.7, 64.0, 254.6])
    >>> to_u8(levels, Fakes.ROUNDED).tolist(), to_u8(levels, Fakes.TRUNCATED).tolist()
    ([0, 1, 2, 64, 255], [0, 0, 1, 64, 254])
    """
    clipped = np.clip(levels, 0, 255)
    if fakes is Fakes.ROUNDED:
        return np.asarray(np.rint(clipped, out=clipped), np.uint8)
    signed = (clipped.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return np.asarray(((signed + np.float32(1)) / np.float32(2) * np.float32(255)), np.uint8)


_RESAVED = to_u8(np.arange(256.0), Fakes.TRUNCATED)
