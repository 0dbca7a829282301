"""The step written plainly is the published one, and the fast path has its gradients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.bench.plain import PlainAsp
from tests.support.contrastive import build, draw_batch, freeze_doubled, narrow
from tests.support.published_steps import STEPS, batch_of, dead_biases, load, names_of, positions_of
from tests.support.stepping import take_step
from tests.support.tiny_run import CPU
from train.loop.step import make_optimisers, step_generator
from train.methods.contrastive import Contrastive

STEP = next(step for step in STEPS if step.file == "asp_step")
LATE = 36 / 40  # the adaptive weights act


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """New networks take their parameters from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def dead(network: str) -> set[str]:
    """Published names of biases whose gradient is rounding."""
    return {names_of(STEP, network)[name] for name in dead_biases(STEP, network)}


def published_states(method: Contrastive) -> dict[str, dict[str, Tensor]]:
    """The state of each network under published names."""
    return {
        name: {names_of(STEP, name)[key]: tensor for key, tensor in module.state_dict().items()}
        for name, module in method.modules().items()
    }


def test_the_plain_step_is_the_published_one() -> None:
    golden = load(STEP)
    plain = PlainAsp(STEP.settings, positions_of(golden, "nce", "asp"))
    prefixes = {ours: f"{theirs}_before/" for ours, theirs in STEP.networks.items()}
    plain.load(
        {
            ours: {key.removeprefix(prefix): tensor for key, tensor in golden.items() if key.startswith(prefix)}
            for ours, prefix in prefixes.items()
        }
    )
    terms = plain.step(golden["he"], golden["ihc"], STEP.progress, torch.Generator())

    for ours, theirs in STEP.terms.items():
        torch.testing.assert_close(terms[ours], golden[f"loss_{theirs}"], rtol=1e-5, atol=0, check_dtype=False)
    halves = terms["discriminator_fake"] + terms["discriminator_real"]
    torch.testing.assert_close(halves, golden["loss_D"], rtol=1e-5, atol=0, check_dtype=False)
    for network, theirs in STEP.networks.items():
        for name, parameter in plain.modules()[network].named_parameters():
            if name not in dead(network):
                published, after = golden[f"grad_{theirs}/{name}"], golden[f"{theirs}_after/{name}"]
                assert parameter.grad is not None, (network, name)
                assert (parameter.grad - published).norm() <= 1e-4 * published.norm(), (network, name)
                assert ((parameter - after).abs() > 1e-6).float().mean() <= 1e-3, (network, name)
        for name, vector in plain.modules()[network].named_buffers():
            if not name.endswith("filt"):
                torch.testing.assert_close(vector, golden[f"{theirs}_after/{name}"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_fast_path_has_the_terms_and_gradients_of_the_plain_step(seed: int) -> None:
    """From equal states, with spectral norms at rest, since a shared step makes fewer iterations; in double precision.

    The discriminator steps in between, so that its Adam is compared as well.
    """
    settings = narrow("asp")
    assert settings.contrast.share_passes
    method, batch = build(settings), draw_batch()
    plain = PlainAsp(settings)
    plain.load(published_states(method))
    freeze_doubled(method)
    for network in plain.modules().values():
        network.double().eval()
    optimisers = make_optimisers(method, settings.optimiser, fused=False)
    fast_terms = take_step(method, optimisers, CPU, [batch], LATE, [step_generator(seed, 1)])
    plain_terms = plain.step(batch.he, batch.ihc, LATE, step_generator(seed, 1))

    assert {name for name in fast_terms if not name.startswith("gradient_")} == set(plain_terms)
    for name, term in plain_terms.items():
        torch.testing.assert_close(fast_terms[name], term, rtol=1e-6, atol=0)
    for name, module in method.modules().items():
        gradients = {key: parameter.grad for key, parameter in plain.modules()[name].named_parameters()}
        for key, parameter in module.named_parameters():
            theirs = names_of(STEP, name)[key]
            if theirs not in dead(name):
                expected = gradients.pop(theirs)
                assert expected is not None, (name, key)
                assert parameter.grad is not None, (name, key)
                assert (parameter.grad - expected).norm() <= 1e-5 * expected.norm(), (name, key)
        assert set(gradients) == dead(name)


def test_the_plain_step_weights_pairs_by_progress() -> None:
    """Early in a run the weights of ASP are 1, late they are not; nothing else changes."""
    golden = load(STEP)
    terms = []
    for progress in (STEP.progress, 0.0):
        torch.manual_seed(0)
        plain = PlainAsp(STEP.settings, positions_of(golden, "nce", "asp"))
        batch = batch_of(golden)
        terms.append(plain.step(batch.he, batch.ihc, progress, torch.Generator()))
    torch.testing.assert_close(terms[0]["nce"], terms[1]["nce"])
    assert (terms[0]["asp"] - terms[1]["asp"]).abs() > 1e-4 * terms[1]["asp"]
