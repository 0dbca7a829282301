"""CycleGAN's image pools and state; its whole step is in test_published_steps.py."""

from __future__ import annotations

import io

import torch

from tests.support.stepping import take_step
from tests.support.tiny_run import CPU, NARROW
from train.data.batch import Batch
from train.loop.step import make_optimisers, step_generator
from train.methods.decisions import Decisions
from train.methods.image_pool import ImagePool
from train.methods.recipes import load_recipe
from train.methods.registry import build_method

SMALL = load_recipe([], ["method=cyclegan", *NARROW])


def picture(value: float) -> torch.Tensor:
    return torch.full((1, 3, 2, 2), float(value))


def exchange(pool: ImagePool, fakes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Choose, exchange, count."""
    given = pool.exchange(fakes, pool.choose(len(fakes), generator))
    pool.settle(torch.tensor(False))
    return given


def test_a_pool_is_filled_and_then_exchanges_half_of_what_it_is_given() -> None:
    pool, generator = ImagePool(capacity=50), torch.Generator().manual_seed(0)
    for value in range(50):
        assert torch.equal(exchange(pool, picture(value), generator), picture(value))
    held = set(range(50))
    exchanged = 0
    for value in range(50, 2050):
        given = exchange(pool, picture(value), generator).mean().item()
        if given != value:
            exchanged += 1
            held = held - {int(given)} | {value}
    assert abs(exchanged - 1000) < 4 * 500**0.5
    assert {int(stored.mean()) for stored in pool.pictures} == held  # each stored picture is given at most once
    assert len(pool.pictures) == 50


def test_a_pool_passes_no_gradient_and_its_pictures_are_copies() -> None:
    pool = ImagePool(capacity=1)
    fake = picture(1.0).requires_grad_()
    given = exchange(pool, fake, torch.Generator())
    assert not given.requires_grad
    with torch.no_grad():
        fake.zero_()
    assert pool.pictures[0].mean() == 1.0


def test_a_batch_is_exchanged_picture_by_picture() -> None:
    pool = ImagePool(capacity=3)
    batch = torch.cat([picture(1.0), picture(2.0)])
    assert torch.equal(exchange(pool, batch, torch.Generator()), batch)
    assert [stored.mean().item() for stored in pool.pictures] == [1.0, 2.0]


def test_a_pool_is_saved_as_plain_tensors_and_resumes_equal() -> None:
    one, other = ImagePool(capacity=4), ImagePool(capacity=4)
    for value in range(4):
        exchange(one, picture(value), torch.Generator())
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for seed in range(20):
        given = [exchange(h, picture(10 + seed), torch.Generator().manual_seed(seed)) for h in (one, other)]
        assert torch.equal(given[0], given[1])


def test_generators_step_first_and_discriminators_score_what_was_made_before() -> None:
    torch.manual_seed(0)
    method = build_method(SMALL)
    assert method.players == ("generators", "discriminators")
    he, ihc = torch.rand(2, 1, 3, 64, 64).mul(2).sub(1)
    batch = Batch(he=he, ihc=ihc)
    with torch.no_grad():
        before = method.generate(batch, Decisions()).fake_ihc
    optimisers = make_optimisers(method, SMALL.optimiser, fused=False)
    take_step(method, optimisers, CPU, [batch], 0.0, [step_generator(0, 1)])
    pool = method.modules()["history"]
    assert isinstance(pool, ImagePool)
    torch.testing.assert_close(pool.pictures[0], before)
    with torch.no_grad():
        after = method.generate(batch, Decisions()).fake_ihc
    assert not torch.allclose(after, before, atol=1e-3)
