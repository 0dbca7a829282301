"""CUT, ASP and the paper's method: a shared pass changes nothing, mirrored pictures, which terms there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.contrastive import build, draw_batch, freeze_doubled, narrow
from tests.support.stepping import decide
from train.data.batch import Batch
from train.loop.step import frozen_except
from train.losses import adaptive_patch_nce, least_squares, patch_nce, pyramid, schedule_shares
from train.methods.contrastive import Contrastive
from train.methods.registry import build_method
from train.networks.patch_projector import draw_positions, normalise, normalise_as_cut
from train.settings import TrainSettings

TERMS = {
    "cut": ["adversarial", "nce", "nce_identity"],
    "cut_paired": ["adversarial", "nce", "nce_identity", "pyramid"],
    "fastcut": ["adversarial", "nce"],
    "asp": ["adversarial", "nce", "asp", "pyramid"],
    "attention_gan": ["adversarial", "nce", "asp", "pyramid"],
}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """New networks take their parameters from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def gradients(method: Any, terms: dict[str, Tensor]) -> dict[str, Tensor]:
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch
    owned = {name: method.modules()[name] for name in ("generator", "heads")}
    return {
        f"{name}.{key}": parameter.grad
        for name, module in owned.items()
        for key, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def literal_terms(method: Contrastive, batch: Batch, progress: float, seed: int) -> dict[str, Tensor]:
    """The generator's terms in the published order: every picture encoded anew, gradients built into keys as well."""
    generator = torch.Generator().manual_seed(seed)
    settings = method.contrast
    mirrored = settings.flip_equivariance and torch.rand((), generator=generator).item() < 0.5
    sources = torch.cat((batch.he, batch.ihc)) if "nce_identity" in method.names else batch.he
    pictures = method.generator(sources.flip(3) if mirrored else sources)
    fake, identity = pictures[: len(batch.he)], pictures[len(batch.he) :]

    def contrast(query: Tensor, key: Tensor, adaptive: bool) -> Tensor:
        keys = method.generator.encode(key)
        queries = method.generator.encode(query)
        if mirrored:
            queries = [tap.flip(3) for tap in queries]
        positions = draw_positions([q.shape[2] * q.shape[3] for q in queries], settings.patches, generator)
        losses = []
        for q, k in zip(method.heads(queries, positions), method.heads(keys, positions), strict=True):
            if adaptive:
                shares = schedule_shares(method.asp.schedule, progress, method.constant_share)
                loss = adaptive_patch_nce(q, k, settings.temperature, shares, method.asp.lookup)
            else:
                loss = patch_nce(q, k, settings.temperature)
            losses.append(loss.mean())
        return torch.stack(losses).mean()

    values = {"nce": contrast(fake, batch.he, adaptive=False)}
    if "nce_identity" in method.names:
        values["nce_identity"] = contrast(identity, batch.ihc, adaptive=False)
    if "asp" in method.names:
        values["asp"] = contrast(fake, batch.ihc, adaptive=True)
    values["adversarial"] = least_squares(method.discriminator(fake), 1.0).mean()
    if "pyramid" in method.names:
        values["pyramid"] = pyramid(fake, batch.ihc.flip(3) if mirrored else batch.ihc).mean()
    return {name: weight * values[name] for name, weight in method.weights.items()}


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("method_name", TERMS)
def test_a_step_that_shares_passes_has_the_gradients_of_the_literal_order(method_name: str, seed: int) -> None:
    settings = narrow(method_name)
    assert settings.contrast.share_passes
    method = build(settings)
    freeze_doubled(method)
    batch = draw_batch(2)
    generator = torch.Generator().manual_seed(seed)
    with frozen_except(method, "generator"):
        decisions = decide(method, batch, 0.9, generator)
        terms = method.terms("generator", batch, method.generate(batch, decisions), decisions)
        shared = gradients(method, terms)
        for module in method.modules().values():
            module.zero_grad()
        plain_terms = literal_terms(method, batch, 0.9, seed)
        plain = gradients(method, plain_terms)
    for name, term in plain_terms.items():
        torch.testing.assert_close(terms[name], term, rtol=1e-9, atol=1e-9)
    assert shared.keys() == plain.keys()
    total = torch.cat([gradient.flatten() for gradient in plain.values()]).norm()
    for name, gradient in plain.items():  # a bias before a norm has no gradient but rounding
        assert (shared[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-12 * total, name


@pytest.mark.parametrize("method_name", TERMS)
def test_the_plain_order_is_a_setting_and_gives_the_same_terms(method_name: str) -> None:
    batch, made = draw_batch(), []
    for share in ("true", "false"):
        torch.manual_seed(0)
        method = build(narrow(method_name, f"contrast.share_passes={share}"))
        freeze_doubled(method)
        decisions = decide(method, batch, 0.5, torch.Generator().manual_seed(5))
        made.append(method.terms("generator", batch, method.generate(batch, decisions), decisions))
    for name, term in made[0].items():
        torch.testing.assert_close(term, made[1][name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("method_name", "names"), TERMS.items())
def test_terms_are_those_of_the_method_and_each_is_reported_alone(method_name: str, names: list[str]) -> None:
    """The ASP repository adds the ASP term to the logged NCE; here NCE is NCE, and the terms add up to the loss."""
    settings = narrow(method_name)
    method = build(settings)
    freeze_doubled(method)
    batch = draw_batch()

    def terms(changed: TrainSettings) -> dict[str, Tensor]:
        method.weights = build_method(changed).weights
        decisions = decide(method, batch, 0.5, torch.Generator().manual_seed(5))
        return dict(method.terms("generator", batch, method.generate(batch, decisions), decisions))

    before = terms(settings)
    assert list(before) == names
    doubled = terms(replace(settings, weights=replace(settings.weights, nce=2 * settings.weights.nce)))
    for name in names:
        factor = 2.0 if name.startswith("nce") else 1.0
        torch.testing.assert_close(doubled[name], factor * before[name], rtol=1e-9, atol=1e-9)


def test_the_identity_term_halves_both_as_in_cut() -> None:
    assert build_method(narrow("cut")).weights == {"adversarial": 1.0, "nce": 0.5, "nce_identity": 0.5}
    assert build_method(narrow("fastcut")).weights == {"adversarial": 1.0, "nce": 10.0}


@pytest.mark.parametrize("name", ["cut", "cut_paired"])
def test_the_other_reading_adds_both_nce_terms_in_full(name: str) -> None:
    """As ASP's cpt_model.py does; the adversarial and the pyramid term stay as they are."""
    one, two = (
        build(narrow(name, "weights.nce=3.0", f"weights.halve_nce={halve}")).weights for halve in ("true", "false")
    )
    assert (one["nce"], one["nce_identity"], two["nce"], two["nce_identity"]) == (1.5, 1.5, 3.0, 3.0)
    assert {term: weight for term, weight in one.items() if "nce" not in term} == {
        term: weight for term, weight in two.items() if "nce" not in term
    }


def test_every_second_picture_is_mirrored_where_that_is_asked_for() -> None:
    batch = draw_batch()
    batch = Batch(he=batch.he.float(), ihc=batch.ihc.float())
    for name, expected in (("fastcut", True), ("cut", False)):
        method = build_method(narrow(name))
        mirrored = [decide(method, batch, 0.0, torch.Generator().manual_seed(seed)).mirrored for seed in range(40)]
        assert (10 < sum(mirrored) < 30) if expected else not any(mirrored)


def test_both_ways_to_unit_length() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-8, 0.0]])
    cut = normalise_as_cut(vectors)
    torch.testing.assert_close(cut[0], torch.tensor([3.0, 4.0]) / (5 + 1e-7))
    torch.testing.assert_close(cut[1:], torch.tensor([[0.0, 0.0], [1e-8 / 1.1e-7, 0.0]]))
    asp = normalise(vectors)
    torch.testing.assert_close(asp[2], torch.tensor([1e-8, 0.0]) / torch.tensor([1.1e-7, 1e-7]).norm())


@pytest.mark.parametrize("count", [1, 2, 3, 255, 511, 512, 513, 514, 1000, 1001, 65536, 268323, 268324])
@pytest.mark.parametrize("wanted", [1, 2, 7, 255, 256])
def test_positions_are_the_first_of_a_permutation_and_draw_as_much(count: int, wanted: int) -> None:
    """Runs that were begun with whole permutations go on with the same numbers, and so does what is drawn after one."""
    whole, first = (torch.Generator().manual_seed(count) for _ in range(2))
    expected = torch.randperm(count, generator=whole)[:wanted]
    (made,) = draw_positions([count], wanted, first)
    assert made.dtype == torch.int64
    assert torch.equal(made, expected)
    assert torch.equal(first.get_state(), whole.get_state())


def test_positions_have_their_shape_where_nothing_has_a_value() -> None:
    """As where memory is estimated."""
    with FakeTensorMode():
        (made,) = draw_positions([1000], 256, torch.Generator())
    assert (made.shape, made.dtype) == ((256,), torch.int64)
