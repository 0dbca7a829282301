"""Whole optimisation steps of the published implementations, from `tests/golden`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.support.places import GOLDEN
from train.data.batch import Batch
from train.methods.asp import asp
from train.methods.base import Method
from train.methods.contrastive import IDENTITY, NCE, Contrastive
from train.methods.cyclegan import CycleGan
from train.methods.decisions import Positions
from train.methods.pix2pix import pix2pix, pyramid_p2p
from train.methods.recipes import load_recipe
from train.networks import patchgan as discriminators
from train.networks import resnet as generators
from train.networks import unet
from train.settings import Norm, TrainSettings

Names = dict[str, str]


@dataclass(frozen=True)
class Step:
    """A golden step: its file, the method with its settings, and what our networks and terms are called there."""

    file: str
    make: Callable[[TrainSettings, Mapping[str, Tensor]], Method[Any]]
    settings: TrainSettings
    networks: dict[str, str]
    terms: dict[str, str]
    halved: tuple[str, ...] = ()  # terms that are stored before CUT halves them
    progress: float = 0.0


def small(method: str, *overrides: str) -> TrainSettings:
    """A published recipe with the narrow networks of the golden files."""
    return load_recipe([], [f"method={method}", "precision=fp32", *overrides])


def positions_of(golden: Mapping[str, Tensor], *terms: str) -> Callable[..., Positions]:
    """The published positions of each term, in the order in which the terms draw."""
    waiting = [[golden[f"patch_ids_{term}_{tap}"].long() for tap in range(5)] for term in terms]
    return lambda *_: waiting.pop(0)


STEPS = [
    Step(
        file="asp_step",
        make=lambda s, g: Contrastive(s, asp(s).names, positions_of(g, "nce", "asp")),
        settings=small(
            "asp", "generator.base=8", "discriminator.base=8", "contrast.width=32", "contrast.share_passes=false"
        ),
        networks={"generator": "G", "discriminator": "D", "heads": "F"},
        terms={"adversarial": "G_GAN", "nce": "NCE", "asp": "ASP", "pyramid": "GP"},
        progress=32 / 40,
    ),
    Step(
        file="cut_step",
        make=lambda s, g: Contrastive(s, ("adversarial", NCE, IDENTITY), positions_of(g, "nce", "idt")),
        settings=small("cut", "generator.base=4", "discriminator.base=4", "contrast.width=32"),
        networks={"generator": "G", "discriminator": "D", "heads": "F"},
        terms={"adversarial": "G_GAN", "nce": "NCE", "nce_identity": "NCE_Y"},
        halved=("nce", "nce_identity"),
    ),
    Step(
        file="cyclegan_step",
        make=lambda s, _: CycleGan(s),
        settings=small("cyclegan", "generator.base=4", "discriminator.base=4"),
        networks={"generator": "G_A", "generator_he": "G_B", "discriminator": "D_A", "discriminator_he": "D_B"},
        terms={
            "adversarial": "G_A",
            "adversarial_he": "G_B",
            "cycle_he": "cycle_A",
            "cycle_ihc": "cycle_B",
            "identity_ihc": "idt_A",
            "identity_he": "idt_B",
        },
    ),
    Step(
        file="pix2pix_step",
        make=lambda s, _: pix2pix(s),
        settings=small(
            "pix2pix", "generator.base=4", "generator.depth=7", "generator.dropout=false", "discriminator.base=4"
        ),
        networks={"generator": "G", "discriminator": "D"},
        terms={"adversarial": "G_GAN", "l1": "G_L1"},
    ),
    Step(
        file="pyramid_step",
        make=lambda s, _: pyramid_p2p(s),
        settings=small("pyramid_p2p", "generator.base=4", "generator.dropout=false", "discriminator.base=4"),
        networks={"generator": "G", "discriminator": "D"},
        terms={"adversarial": "G_GAN", "l1": "G_L1", "octave1": "G_L2", "octave2": "G_L3", "octave3": "G_L4"},
    ),
]


def load(step: Step, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{step.file}.npz") as file:
        tensors = {name: torch.from_numpy(file[name]) for name in file.files}
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def names_of(step: Step, network: str) -> Names:
    """Our names of a network's tensors -> the published ones."""
    if network == "heads":
        return {
            f"heads.{k}.{layer}.{t}": f"mlp_{k}.{layer}.{t}"
            for k in range(5)
            for layer in (0, 2)
            for t in ("weight", "bias")
        }
    if network.startswith("generator"):
        if step.file == "pix2pix_step":
            return unet.published_names(step.settings.generator)
        return generators.published_names(step.settings.generator)
    names = discriminators.published_names(step.settings.discriminator)
    if step.file == "cut_step":  # calls everything `model`
        return {
            ours: theirs.replace("enc.", "model.").replace("final_conv", "model.14") for ours, theirs in names.items()
        }
    return names


def dead_biases(step: Step, network: str) -> set[str]:
    """Our names of biases that reach the loss only through an instance norm: their gradient is rounding."""
    if network == "heads" or step.settings.generator.norm is Norm.BATCH:
        return set()
    tapped = ("encoder.0.conv.bias", "encoder.1.conv.bias") if step.file in ("asp_step", "cut_step") else ()
    alive = {"output.bias", *tapped} if network.startswith("generator") else {"output.bias", "stages.0.conv.bias"}
    return {name for name in names_of(step, network) if name.endswith("bias")} - alive


def batch_of(golden: Mapping[str, Tensor]) -> Batch:
    return Batch(he=golden["he"], ihc=golden["ihc"])
