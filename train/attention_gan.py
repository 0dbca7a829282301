"""The paper's method: ASP's step and terms, with a generator that has AMMFI in its decoder."""

from __future__ import annotations

from train.contrastive import ADVERSARIAL, ASP, NCE, PYRAMID, Contrastive
from train.settings import TrainSettings


def attention_gan(settings: TrainSettings) -> Contrastive:
    """L_G = adversarial + λ_NCE NCE + λ_ASP ASP + λ_GP pyramid, eq. (7), weights as in the settings.

    The generator is `train/generators.py` with `generator.attention` (eq. (1) to eq. (3)), the terms are those of
    `train/losses.py`. Switched off, the attention leaves ASP with the paper's stem. Sources: the paper, ASP.
    """
    return Contrastive(settings, (ADVERSARIAL, NCE, ASP, PYRAMID))
