"""The target paper's method: ASP's losses on several magnifications, with attention (AMMFI) in the generator."""

from __future__ import annotations

from train.methods.asp import ASP_SETTINGS
from train.methods.base import ADVERSARIAL, MethodEntry
from train.methods.contrastive import ADAPTIVE, NCE, PYRAMID, Contrastive
from train.settings import TrainSettings


def attention_gan(settings: TrainSettings) -> Contrastive:
    """L_G = adversarial + λ_NCE NCE + λ_ASP ASP + λ_GP pyramid, eq. (7), weights as in the settings.

    The generator is that of `train/networks/resnet.py` with `generator.attention`, eq. (1) to eq. (3). Without the
    attention it is ASP with the paper's stem.
    """
    return Contrastive(settings, (ADVERSARIAL, NCE, ADAPTIVE, PYRAMID))


ATTENTION_GAN = MethodEntry(
    title="multi-magnification attention GAN",
    source=(
        "Advancing H&E-to-IHC Stain Translation in Breast Cancer: A Multi-Magnification and Attention-Based Approach, "
        "2024"
    ),
    build=attention_gan,
    reads=ASP_SETTINGS,
    paper_row="ours (both)",
)
