"""One step: players step in the published order, each with its own gradients, at the published rate."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.optim import Adam

from store.schema import SettingsError
from tests.support.stepping import decide, take_step
from tests.support.tiny_run import CPU, TINY
from train.data.batch import Batch
from train.loop.schedule import set_learning_rate
from train.loop.step import make_optimisers, step_generator
from train.methods.attention_gan import attention_gan
from train.methods.registry import build_method
from train.runtime.device import resolve
from train.settings import (
    OptimiserSettings,
    Precision,
    WeightSettings,
)


def draw_batch(size: int = 1, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    he, ihc = torch.rand((2, size, 3, 96, 96), generator=generator).mul(2).sub(1)
    return Batch(he=he, ihc=ihc)


def test_a_step_moves_the_discriminator_first_and_then_the_rest_as_the_plain_step_does() -> None:
    torch.manual_seed(0)
    method = build_method(TINY)
    optimisers = make_optimisers(method, TINY.optimiser, fused=False)
    torch.manual_seed(0)
    plain = attention_gan(TINY)
    adams = {
        "discriminator": Adam(plain.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999)),
        "generator": Adam(plain.generator.parameters(), lr=2e-4, betas=(0.5, 0.999)),
        "heads": Adam(plain.heads.parameters(), lr=2e-4, betas=(0.5, 0.999)),  # a third optimiser, as published
    }
    for step in (1, 2, 3):
        batch = draw_batch(seed=step)
        terms = take_step(method, optimisers, CPU, [batch], 0.5, [step_generator(0, step)])
        decisions = decide(plain, batch, 0.5, step_generator(0, step))
        outputs = plain.generate(batch, decisions)
        of_discriminator = plain.terms("discriminator", batch, outputs, decisions)
        adams["discriminator"].zero_grad()
        sum(of_discriminator.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]  # torch
        adams["discriminator"].step()
        of_generator = plain.terms("generator", batch, outputs, decisions)
        adams["generator"].zero_grad()
        adams["heads"].zero_grad()
        sum(of_generator.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]  # torch
        adams["generator"].step()
        adams["heads"].step()
        assert list(terms) == [*of_discriminator, "gradient_discriminator", *of_generator, "gradient_generator"]
        assert list(of_discriminator) == ["discriminator_fake", "discriminator_real"]
        assert list(of_generator) == ["adversarial", "nce", "asp", "pyramid"]
        for name, term in (of_discriminator | of_generator).items():
            torch.testing.assert_close(terms[name], term.detach(), rtol=1e-5, atol=1e-6)
    for name, module in method.modules().items():
        for (key, ours), theirs in zip(module.named_parameters(), plain.modules()[name].parameters(), strict=True):
            if not (key.endswith("bias") and name != "heads"):  # before a norm their gradient is rounding
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-6)


def test_no_gradient_of_the_fake_reaches_the_generator_from_the_discriminators_step() -> None:
    method = build_method(TINY)
    batch = draw_batch()
    decisions = decide(method, batch, 0.0, step_generator(0, 1))
    terms = method.terms("discriminator", batch, method.generate(batch, decisions), decisions)
    sum(terms.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]  # torch
    assert all(p.grad is None for name in ("generator", "heads") for p in method.modules()[name].parameters())
    assert all(p.grad is not None for p in method.modules()["discriminator"].parameters())


def test_a_step_gives_each_player_only_its_own_gradients() -> None:
    method = build_method(TINY)
    before = {name: [p.detach().clone() for p in m.parameters()] for name, m in method.modules().items()}
    take_step(
        method, make_optimisers(method, TINY.optimiser, fused=False), CPU, [draw_batch(2)], 0.0, [step_generator(0, 1)]
    )
    for name, module in method.modules().items():
        assert all(p.requires_grad for p in module.parameters())
        assert any(not torch.equal(p, old) for p, old in zip(module.parameters(), before[name], strict=True))


def test_terms_are_the_published_weights_times_the_losses() -> None:
    batch = draw_batch()
    terms = {}
    for weights in (WeightSettings(), WeightSettings(adversarial=1, nce=1, asp=1, pyramid=1)):
        torch.manual_seed(0)
        method = build_method(replace(TINY, weights=weights))
        decisions = decide(method, batch, 0.5, step_generator(0, 1))
        terms[weights.nce] = method.terms("generator", batch, method.generate(batch, decisions), decisions)
    ratios = {name: (terms[10.0][name] / terms[1.0][name]).item() for name in terms[1.0]}
    assert ratios == pytest.approx({"adversarial": 1, "nce": 10, "asp": 10, "pyramid": 10})


def test_the_learning_rate_is_the_published_one_in_every_epoch() -> None:
    optimisers = make_optimisers(build_method(TINY), OptimiserSettings(), fused=False)
    rates = [set_learning_rate(optimisers, OptimiserSettings(), epoch) / 2e-4 for epoch in (1, 30, 31, 35, 40)]
    assert rates == pytest.approx([1, 1, 10 / 11, 6 / 11, 1 / 11])
    assert all(group["lr"] == 2e-4 * rates[-1] for o in optimisers.values() for group in o.param_groups)


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:99"])
def test_devices_that_are_not_here_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"device = '{name}': .*use auto"):
        resolve(name, Precision.AUTO)
