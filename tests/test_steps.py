"""Whole optimisation steps against the published ones: terms, gradients, and parameters afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from train import discriminators, generators, unet
from train.choices import Norm, Precision
from train.contrastive import IDENTITY, NCE, Contrastive, asp
from train.cyclegan import CycleGan
from train.data import Batch
from train.device import Compute
from train.methods import Method
from train.paired import pix2pix, pyramid_p2p
from train.patches import Positions
from train.players import make_optimisers, take_step
from train.recipe import load_recipe
from train.settings import TrainSettings

GOLDEN = Path(__file__).parent / "golden"
CPU = Compute(device=torch.device("cpu"), precision=Precision.FP32)
Names = dict[str, str]
"""Our name of a tensor -> its published name."""


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


def prepare(step: Step, golden: Mapping[str, Tensor]) -> Method[Any]:
    """The method in the state before the published step."""
    method = step.make(step.settings, golden)
    for module in method.modules().values():
        module.to(golden["he"].dtype)
    for ours, theirs in step.networks.items():
        state = {name: golden[f"{theirs}_before/{key}"] for name, key in names_of(step, ours).items()}
        method.modules()[ours].load_state_dict(state)
        stored = {key for key in golden if key.startswith(f"{theirs}_before/")}
        assert {f"{theirs}_before/{key}" for key in names_of(step, ours).values()} == stored
    return method


def dead_biases(step: Step, network: str) -> set[str]:
    """Our names of biases that reach the loss only through an instance norm: their gradient is rounding."""
    if network == "heads" or step.settings.generator.norm is Norm.BATCH:
        return set()
    tapped = ("encoder.0.conv.bias", "encoder.1.conv.bias") if step.file in ("asp_step", "cut_step") else ()
    alive = {"output.bias", *tapped} if network.startswith("generator") else {"output.bias", "stages.0.conv.bias"}
    return {name for name in names_of(step, network) if name.endswith("bias")} - alive


def batch_of(golden: Mapping[str, Tensor]) -> Batch:
    return Batch(he=golden["he"], ihc=golden["ihc"])


def gradients_of(step: Step, method: Method[Any]) -> Iterable[tuple[str, str, Tensor]]:
    """Our network and tensor, and the gradient with which its Adam was stepped."""
    for network in step.networks:
        for name, parameter in method.modules()[network].named_parameters():
            assert parameter.grad is not None, (network, name)
            yield network, name, parameter.grad


def share_of_wrong_parameters(step: Step, method: Method[Any], golden: Mapping[str, Tensor]) -> float:
    """Of all compared entries, how many differ from the published step's by more than 1e-6."""
    wrong = compared = 0
    for network, theirs in step.networks.items():
        names, dead = names_of(step, network), dead_biases(step, network)
        for name, parameter in method.modules()[network].named_parameters():
            if name not in dead:
                difference = (parameter.detach() - golden[f"{theirs}_after/{names[name]}"]).abs()
                wrong += int((difference > 1e-6).sum())
                compared += difference.numel()
    return wrong / compared


@pytest.mark.parametrize(
    ("layout", "dtype"), [(torch.contiguous_format, torch.float32), (torch.channels_last, torch.float64)]
)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.file)
def test_a_step_is_the_published_one(step: Step, layout: torch.memory_format, dtype: torch.dtype) -> None:
    """In double precision with channels last, where the float32 kernel of the norm rounds a ReLU over its kink."""
    golden = load(step, dtype)
    method = prepare(step, golden)
    for module in method.modules().values():
        module.to(memory_format=layout)
    optimisers = make_optimisers(method, step.settings.optimiser, fused=False)
    terms = take_step(method, optimisers, CPU, batch_of(golden), step.progress, torch.Generator())

    for ours, theirs in step.terms.items():
        factor = 0.5 if ours in step.halved else 1.0
        torch.testing.assert_close(terms[ours], factor * golden[f"loss_{theirs}"], rtol=1e-5, atol=0, check_dtype=False)
    made = {name: term for name, term in terms.items() if name in method.weights}
    assert set(made) == set(step.terms) == set(method.weights)
    torch.testing.assert_close(
        torch.stack(list(made.values())).sum(), golden["loss_G"], rtol=1e-5, atol=0, check_dtype=False
    )
    for network in ("discriminator", "discriminator_he"):
        if network in step.networks:
            suffix = step.networks[network]
            halves = terms[f"{network}_fake"] + terms[f"{network}_real"]
            torch.testing.assert_close(halves, golden[f"loss_{suffix}"], rtol=1e-5, atol=0, check_dtype=False)

    for network, name, gradient in gradients_of(step, method):
        if name not in dead_biases(step, network):
            published = golden[f"grad_{step.networks[network]}/{names_of(step, network)[name]}"]
            assert (gradient - published).norm() <= 1e-4 * published.norm(), (network, name)
    assert share_of_wrong_parameters(step, method, golden) <= 1e-4
    for network, theirs in step.networks.items():
        names = names_of(step, network)
        for name, value in method.modules()[network].named_buffers():
            if name in names:  # statistics of batch norm, vectors of spectral norm
                after = golden[f"{theirs}_after/{names[name]}"]
                torch.testing.assert_close(value, after, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.file)
def test_a_step_with_negated_gradients_is_not_the_published_one(step: Step) -> None:
    """Adam's first step is at most 2e-4 long, so that a loose comparison would pass whatever the gradient."""
    golden = load(step)
    method = prepare(step, golden)
    optimisers = make_optimisers(method, step.settings.optimiser, fused=False)
    for optimiser in optimisers.values():
        optimiser.register_step_pre_hook(negate)
    take_step(method, optimisers, CPU, batch_of(golden), step.progress, torch.Generator())
    assert share_of_wrong_parameters(step, method, golden) > 0.5


def negate(optimiser: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad.neg_()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.file)
def test_what_is_generated_is_the_published_picture(step: Step) -> None:
    golden = load(step)
    outputs = prepare(step, golden).generate(batch_of(golden), torch.Generator())
    if step.file == "cyclegan_step":
        made = {
            "fake_B": outputs.fake_ihc,
            "rec_A": outputs.back_he,
            "fake_A": outputs.fake_he,
            "rec_B": outputs.back_ihc,
        }
    elif step.file == "cut_step":
        made = {"fake": outputs.pictures[:1], "idt": outputs.pictures[1:]}
    else:
        made = {"fake": outputs.pictures if step.file == "asp_step" else outputs.fake}
    for name, picture in made.items():
        torch.testing.assert_close(picture.detach(), golden[name], rtol=0, atol=1e-4)
