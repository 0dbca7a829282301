"""Patches of all taps and terms through the projection heads at once, against one head after the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.support.kernels import DEVICE, FORMATS, count_interpreted, count_launches, draw, kernels
from train.losses import adaptive_patch_nce, patch_nce
from train.methods.contrastive import _mean_of_tap
from train.networks.patch_projector import Comparison, ProjectionHeads, draw_positions
from train.settings import Lookup, UnitLength

CHANNELS = (3, 1, 193)
PLACES = (20, 25, 30)  # of maps of 4, 5 and 6 by 5 px
SHARES = torch.tensor((0.4, 0.6), dtype=torch.float64)  # of 1 and of the lookup, as a step decides them
each_unit_length = pytest.mark.parametrize("unit_length", list(UnitLength))


def build(unit_length: UnitLength) -> ProjectionHeads:
    heads = ProjectionHeads(CHANNELS, 10, unit_length)
    with torch.no_grad():
        for seed, parameter in enumerate(heads.parameters()):
            parameter.copy_(0.5 * draw(*parameter.shape, seed=seed))
    return heads.to(DEVICE)


def maps(batch: int, dtype: torch.dtype, seed: int, layout: torch.memory_format) -> list[Tensor]:
    """The first one float32, as the padded picture is."""
    sides = [(batch, channels, 4 + n, 5) for n, channels in enumerate(CHANNELS)]
    dtypes = [torch.float32, dtype, dtype]
    drawn = [draw(*side, dtype=kind, seed=seed) for side, kind in zip(sides, dtypes, strict=True)]
    return [x.contiguous(memory_format=layout).requires_grad_() for x in drawn]


def plan(batch: int, dtype: torch.dtype, layout: torch.memory_format) -> list[Comparison]:
    """Two terms with the same queries, one with others."""
    fake, other, he, ihc = (maps(batch, dtype, seed, layout) for seed in range(4))
    generator = torch.Generator().manual_seed(0)
    pairs = ((fake, he), (other, ihc), (fake, ihc))
    return [Comparison(query=q, key=k, positions=draw_positions(PLACES, 4, generator)) for q, k in pairs]


def losses(heads: ProjectionHeads, plan: Sequence[Comparison]) -> Tensor:
    """The mean of an adaptive loss, over patches and taps, for each comparison."""
    return torch.stack(
        [
            torch.stack(
                [
                    adaptive_patch_nce(q, k, 0.07, SHARES, Lookup.LINEAR, _mean_of_tap).mean()
                    for q, k in zip(*both, strict=True)
                ]
            ).mean()
            for both in heads.compare(plan)
        ]
    )


def gradients(value: Tensor, heads: ProjectionHeads, plan: Sequence[Comparison]) -> tuple[Tensor, ...]:
    inputs = [*plan[0].query, *plan[1].query, *heads.parameters()]
    return torch.autograd.grad(value @ torch.tensor([1.0, 2.0, 3.0], device=DEVICE), inputs)


def close(ours: Tensor, truth: Tensor, tolerance: float) -> None:
    assert ours.dtype == truth.dtype
    torch.testing.assert_close(ours, truth, rtol=0, atol=tolerance * float(truth.detach().abs().max()))


@each_unit_length
@pytest.mark.parametrize(("batch", "dtype"), [(1, torch.bfloat16), (3, torch.float32)])
def test_all_terms_at_once_are_each_term_alone(unit_length: UnitLength, batch: int, dtype: torch.dtype) -> None:
    heads = build(unit_length)
    terms = plan(batch, dtype, FORMATS[batch == 3])
    truth = losses(heads, terms)
    wanted = gradients(truth, heads, terms)
    with kernels(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        made = losses(heads, terms)
    with kernels():
        found = gradients(made, heads, terms)
        again = gradients(losses(heads, terms), heads, terms)
    close(made, truth, 1e-6)
    for ours, expected, repeated in zip(found, wanted, again, strict=True):
        close(ours, expected, 2**-6 if ours.dtype == torch.bfloat16 else 1e-5)  # two terms, each rounded, are added
        assert ours.dtype == torch.bfloat16 or torch.equal(ours, repeated)


@each_unit_length
def test_vectors_have_their_unit_length_and_those_of_keys_no_gradient(unit_length: UnitLength) -> None:
    heads = build(unit_length)
    terms = plan(2, torch.float32, torch.channels_last)
    with kernels():
        made = heads.compare(terms)
    for ((query,), (key,)), (queries, keys) in zip(made, heads.compare(terms), strict=True):
        assert query.requires_grad
        assert not key.requires_grad
        assert query.shape == key.shape == (len(CHANNELS), 2, 4, 10)
        close(query, torch.stack(queries), 1e-6)
        close(key, torch.stack(keys), 1e-6)
    with kernels():
        (query,) = heads.compare(terms)[1][0]
        only = torch.autograd.grad(query.sum(), [*terms[0].query, *terms[1].query], allow_unused=True)
    assert [bool(x is not None and x.any()) for x in only] == [False] * 3 + [True] * 3


def test_taps_with_different_numbers_of_patches_go_through_one_by_one() -> None:
    heads = build(UnitLength.ASP)
    fake = maps(1, torch.float32, 0, torch.channels_last)
    positions = [torch.arange(n + 2, device=DEVICE) for n in range(3)]
    with kernels():
        ((queries, _),) = heads.compare([Comparison(query=fake, key=fake, positions=positions)])
    assert [query.shape[1] for query in queries] == [2, 3, 4]
    assert all(map(torch.equal, queries, heads(fake, positions)))


def test_a_loss_of_all_taps_is_that_of_each() -> None:
    query, key = (torch.nn.functional.normalize(draw(3, 2, 5, 8, seed=seed), dim=-1) for seed in range(2))
    nce = partial(patch_nce, temperature=0.07)
    asp = partial(adaptive_patch_nce, temperature=0.07, shares=SHARES, lookup=Lookup.BELL, mean=_mean_of_tap)
    for loss in (nce, asp):
        each = torch.stack([loss(q, k) for q, k in zip(query, key, strict=True)])
        torch.testing.assert_close(loss(query, key), each, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(DEVICE.type == "cuda", reason="counts interpreted kernels")
def test_terms_share_kernels() -> None:
    """A copy per map, and one of unit length; backward one addition per term and tap, unit length, each term's loss."""
    heads = build(UnitLength.ASP)
    terms = plan(1, torch.float32, torch.channels_last)
    with kernels():
        assert count_interpreted(lambda: heads.compare(terms)) == 2 * 3 * 3 + 1
        value = losses(heads, terms)
        assert count_interpreted(lambda: gradients(value, heads, terms)) == 3 * 3 + 1 + 3


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
def test_terms_take_few_launches_and_are_recorded() -> None:
    """Three terms of three taps, forward: copies of pixels 18, first layers 3, the rest for all taps; and replayed."""
    heads = build(UnitLength.ASP)
    terms = plan(1, torch.bfloat16, torch.channels_last)
    terms = [
        Comparison(query=term.query, key=term.key, positions=[p.to(DEVICE) for p in term.positions]) for term in terms
    ]
    shares = SHARES.to(DEVICE)
    assert count_launches(lambda: heads.compare(terms)) <= 18 + 3 + 8

    def step() -> list[Tensor]:
        made = heads.compare(terms)
        value = torch.stack(
            [
                adaptive_patch_nce(queries[0], keys[0], 0.07, shares, Lookup.LINEAR, _mean_of_tap).mean()
                for queries, keys in made
            ]
        ).sum()
        return [value, *torch.autograd.grad(value, list(heads.parameters()))]

    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        truth = step()
        truth = step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = step()
    graph.replay()
    for ours, wanted in zip(made, truth, strict=True):
        assert torch.equal(ours, wanted)
