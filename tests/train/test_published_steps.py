"""Whole optimisation steps against the published ones: terms, gradients, and parameters afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.published_steps import STEPS, Step, batch_of, dead_biases, load, names_of
from tests.support.stepping import decide, take_step
from tests.support.tiny_run import CPU
from train.loop.step import make_optimisers
from train.methods.base import Method

"""Our name of a tensor -> its published name."""


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
    terms = take_step(method, optimisers, CPU, [batch_of(golden)], step.progress, [torch.Generator()])

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
    take_step(method, optimisers, CPU, [batch_of(golden)], step.progress, [torch.Generator()])
    assert share_of_wrong_parameters(step, method, golden) > 0.5


def negate(optimiser: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad.neg_()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.file)
def test_what_is_generated_is_the_published_picture(step: Step) -> None:
    golden = load(step)
    method, batch = prepare(step, golden), batch_of(golden)
    outputs = method.generate(batch, decide(method, batch, step.progress, torch.Generator()))
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
