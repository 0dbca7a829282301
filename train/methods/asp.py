"""ASP: CUT's PatchNCE, and on pairs the adaptive supervised PatchNCE. It is the target paper's baseline."""

from __future__ import annotations

from train.methods.base import ADVERSARIAL, GAN_SETTINGS, MethodEntry
from train.methods.contrastive import ADAPTIVE, CONTRAST_SETTINGS, NCE, PYRAMID, Contrastive
from train.settings import TrainSettings

ASP_SETTINGS = (*GAN_SETTINGS, *CONTRAST_SETTINGS, "asp", "weights.asp", "weights.pyramid")


def asp(settings: TrainSettings) -> Contrastive:
    """ASP: adversarial, PatchNCE, adaptive supervised PatchNCE, Gaussian pyramid."""
    return Contrastive(settings, (ADVERSARIAL, NCE, ADAPTIVE, PYRAMID))


ASP = MethodEntry(
    title="ASP",
    source=(
        "Li et al., Adaptive Supervised PatchNCE Loss for Learning H&E-to-IHC Stain Translation with Inconsistent "
        "Groundtruth Image Pairs, MICCAI 2023"
    ),
    build=asp,
    reads=ASP_SETTINGS,
    paper_row="ASP (our baseline)",
)
