"""CUT and FastCUT, which need no pairs, and CUT on pairs as the ASP paper is reported to have trained it."""

from __future__ import annotations

from train.methods.base import ADVERSARIAL, GAN_SETTINGS, MethodEntry
from train.methods.contrastive import CONTRAST_SETTINGS, IDENTITY, NCE, PYRAMID, Contrastive
from train.settings import TrainSettings

PAPER = "Park et al., Contrastive Learning for Unpaired Image-to-Image Translation, ECCV 2020"


def cut(settings: TrainSettings) -> Contrastive:
    """CUT: adversarial, PatchNCE, and PatchNCE of an IHC picture with its own translation."""
    return Contrastive(settings, (ADVERSARIAL, NCE, IDENTITY))


def cut_paired(settings: TrainSettings) -> Contrastive:
    """CUT on pairs with the Gaussian pyramid: the ASP paper's CUT, says its maintainer (ASP repository, issue 7).

    Both NCE terms count half, as in CUT; with `weights.halve_nce = false` in full, as in ASP's `cpt_model.py`.
    """
    return Contrastive(settings, (ADVERSARIAL, NCE, IDENTITY, PYRAMID))


def fastcut(settings: TrainSettings) -> Contrastive:
    """FastCUT: CUT without the identity term; its preset mirrors every second picture and has an NCE weight of 10."""
    return Contrastive(settings, (ADVERSARIAL, NCE))


CUT = MethodEntry(title="CUT", source=PAPER, build=cut, reads=(*GAN_SETTINGS, *CONTRAST_SETTINGS, "weights.halve_nce"))
FASTCUT = MethodEntry(title="FastCUT", source=PAPER, build=fastcut, reads=(*GAN_SETTINGS, *CONTRAST_SETTINGS))
CUT_PAIRED = MethodEntry(
    title="CUT on pairs",
    source=PAPER,
    build=cut_paired,
    reads=(*GAN_SETTINGS, *CONTRAST_SETTINGS, "weights.halve_nce", "weights.pyramid"),
    paper_row="CUT",  # the paper takes this row from the ASP paper
)
