"""The losses against the published implementations, known values, and swapped arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.support.places import GOLDEN
from train.loop.schedule import learning_rate_factor
from train.losses import (
    OBJECTIVES,
    PYRAMID_WEIGHTS,
    absolute,
    adaptive_patch_nce,
    asp_weights,
    cross_entropy,
    least_squares,
    lookup_weight,
    octaves,
    patch_nce,
    pyramid,
    pyramid_levels,
    schedule_shares,
    schedule_weight,
)
from train.networks.patch_projector import ProjectionHeads, draw_positions, gather_patches, normalise
from train.settings import Lookup, RateStep, Schedule

CONSTANT, DECAY = 30, 10
SHARE = CONSTANT / (CONSTANT + DECAY)
LATE = schedule_shares(Schedule.LAMBDA, 0.95, SHARE)
PAIRS = ["lambda_linear", "lambda_top", "lambda_bell", "lambda_uniform", "linear_linear", "linear_top"]
PAIRS += ["sigmoid_linear", "sigmoid_bell", "zero_linear"]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """New networks take their parameters from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def load_golden(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / name) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def shares_of(schedule: Schedule, epoch: int) -> torch.Tensor:
    return schedule_shares(schedule, progress_of(epoch), SHARE)


def progress_of(epoch: int) -> float:
    return (epoch - 1) / (CONSTANT + DECAY)


def close(value: Tensor, golden: Tensor) -> None:
    torch.testing.assert_close(value, golden, rtol=1e-5, atol=2e-6)  # per patch, tests/golden


def draw_patches(seed: int, batch: int = 2, patches: int = 16, channels: int = 8) -> Tensor:
    vectors = np.random.default_rng(seed).standard_normal((batch, patches, channels))
    return F.normalize(torch.from_numpy(vectors.astype(np.float32)), dim=2)


@pytest.mark.parametrize("file", ["losses.npz", "losses_negative.npz"])
def test_patch_nce_is_the_published_one(file: str) -> None:
    golden = load_golden(file)
    query, key = golden["nce_q"][None], golden["nce_k"][None]
    close(patch_nce(query, key, 0.07)[0], golden["nce_loss"])
    swapped = patch_nce(key, query, 0.07)[0]
    assert (swapped - golden["nce_loss"]).abs().max() > 0.1


@pytest.mark.parametrize("file", ["losses.npz", "losses_negative.npz"])
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("epoch", [1, 20, 31, 36, 40])
def test_adaptive_patch_nce_is_the_published_one(file: str, pair: str, epoch: int) -> None:
    golden = load_golden(file)
    schedule, lookup = pair.split("_")
    query, key = golden["nce_q"][None], golden["nce_k"][None]
    loss = adaptive_patch_nce(query, key, 0.07, shares_of(Schedule(schedule), epoch), Lookup(lookup))
    close(loss[0], golden[f"asp_{pair}_epoch{epoch}"])


def test_the_negative_golden_file_has_negative_cosines() -> None:
    golden = load_golden("losses_negative.npz")
    cosines = (golden["nce_q"] * golden["nce_k"]).sum(dim=1)
    torch.testing.assert_close(cosines.double(), golden["positive_cosine"], rtol=0, atol=1e-6)
    assert (cosines < 0).float().mean() == 0.5


@pytest.mark.parametrize("count", [4, 256])
def test_indistinguishable_patches_cost_the_logarithm_of_their_number(count: int) -> None:
    same = F.normalize(torch.ones(1, count, 8), dim=2)
    torch.testing.assert_close(patch_nce(same, same, 0.07), torch.full((1, count), math.log(count)))


def test_orthonormal_patches_cost_next_to_nothing() -> None:
    vectors = torch.eye(4)[None]
    torch.testing.assert_close(patch_nce(vectors, vectors, 0.07), torch.full((1, 4), 1.788e-6), rtol=0, atol=1.5e-7)
    exact = patch_nce(vectors.double(), vectors.double(), 0.07)
    torch.testing.assert_close(exact, torch.full((1, 4), 1.87e-6, dtype=torch.float64), rtol=3e-3, atol=0)


@pytest.mark.parametrize(
    ("epoch", "losses"), [(1, (1.08801e-5, 5.5844e-2)), (36, (1.30561e-5, 4.4675e-2)), (40, (1.62212e-5, 2.8430e-2))]
)
def test_adaptive_patch_nce_of_two_queries(epoch: int, losses: tuple[float, float]) -> None:
    query = torch.eye(4, dtype=torch.float64)[None, [0, 2]]
    key = torch.tensor([[[0.8, 0.6, 0, 0], [0, 0, 0.2, 0.96**0.5]]], dtype=torch.float64)
    loss = adaptive_patch_nce(query, key, 0.07, shares_of(Schedule.LAMBDA, epoch), Lookup.LINEAR)
    assert loss[0].tolist() == pytest.approx(losses, rel=5e-5)


def test_asp_weights_at_the_last_epoch() -> None:
    similarity = torch.tensor([[0.8, 0.2]], dtype=torch.float64)
    assert schedule_weight(Schedule.LAMBDA, progress_of(40), SHARE) == pytest.approx(0.9)
    weights = asp_weights(similarity, shares_of(Schedule.LAMBDA, 40), Lookup.LINEAR)
    assert weights[0].tolist() == pytest.approx((1.490909, 0.509091), abs=1e-6)  # of 0.82 and 0.28


def test_asp_weights_have_mean_1_over_the_batch_and_favour_what_is_alike() -> None:
    similarity = torch.linspace(-1, 1, 64).reshape(2, 32)
    weights = asp_weights(similarity, LATE, Lookup.LINEAR)
    assert weights.mean() == pytest.approx(1, abs=1e-6)
    assert weights[0].mean() < 0.6 < 1.4 < weights[1].mean()
    negated = asp_weights(-similarity, LATE, Lookup.LINEAR)
    assert not torch.allclose(negated, weights, atol=0.1)


def test_keys_and_weights_carry_no_gradient() -> None:
    query, key = draw_patches(0).requires_grad_(), draw_patches(1).requires_grad_()
    loss = adaptive_patch_nce(query, key, 0.07, LATE, Lookup.LINEAR)
    loss.sum().backward()  # type: ignore[no-untyped-call]  # torch
    assert key.grad is None
    weights = asp_weights((query * key).sum(dim=2).detach(), LATE, Lookup.LINEAR)
    (constant,) = torch.autograd.grad((weights * patch_nce(query, key, 0.07)).sum(), query)
    torch.testing.assert_close(query.grad, constant)


def test_negatives_come_from_the_same_picture() -> None:
    query, key = draw_patches(0), draw_patches(1)
    alone = torch.cat([patch_nce(query[i : i + 1], key[i : i + 1], 0.07) for i in range(2)])
    torch.testing.assert_close(patch_nce(query, key, 0.07), alone)


def test_patch_nce_is_float32_under_autocast() -> None:
    query, key = draw_patches(0), draw_patches(1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = patch_nce(query, key, 0.07)
    assert torch.equal(loss, patch_nce(query, key, 0.07))


@pytest.mark.parametrize(
    ("lookup", "values"),
    [
        (Lookup.LINEAR, (0, 0, 0.25, 0.5, 0.75, 1)),
        (Lookup.TOP, (0, 0, 0.6614, 0.8660, 0.9682, 1)),
        (Lookup.BELL, (0.0001, 0.0540, 0.2420, 0.3989, 0.2420, 0.0540)),
        (Lookup.UNIFORM, (1, 1, 1, 1, 1, 1)),
    ],
)
def test_lookup_values(lookup: Lookup, values: tuple[float, ...]) -> None:
    similarity = torch.tensor([-0.5, 0, 0.25, 0.5, 0.75, 1])
    assert lookup_weight(lookup, similarity).tolist() == pytest.approx(values, abs=6e-5)


@pytest.mark.parametrize("lookup", list(Lookup))
def test_lookups_are_finite_for_cosines_that_rounding_took_past_1(lookup: Lookup) -> None:
    similarity = torch.tensor([1 + 3e-7, 1.0, -1 - 3e-7])
    assert lookup_weight(lookup, similarity).isfinite().all()
    assert lookup_weight(lookup, similarity).min() >= 0


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Schedule.LAMBDA, {1: 0, 30: 0, 31: 0, 32: 0.1, 35: 0.4, 36: 0.5, 40: 0.9}),
        (Schedule.SIGMOID, {1: 0.0067, 30: 0.9047, 40: 0.9914}),
        (Schedule.LINEAR, {1: 0, 21: 0.5, 40: 0.975}),
        (Schedule.ZERO, {1: 0, 40: 0}),
    ],
)
def test_schedule_values(schedule: Schedule, values: dict[int, float]) -> None:
    for epoch, value in values.items():
        assert schedule_weight(schedule, progress_of(epoch), SHARE) == pytest.approx(value, abs=5e-5)


def test_a_run_without_decay_never_weighs_by_lambda() -> None:
    assert schedule_weight(Schedule.LAMBDA, 0.99, 1.0) == 0


def test_pyramid_is_the_published_one_with_its_gradient() -> None:
    golden = load_golden("losses.npz")
    fake, real = golden["pyramid_fake"].requires_grad_(), golden["pyramid_real"]
    levels = torch.stack(pyramid_levels(fake, real))[:, 0]
    torch.testing.assert_close(levels, golden["pyramid_level_l1"], rtol=1e-5, atol=0)
    torch.testing.assert_close(torch.tensor(PYRAMID_WEIGHTS), golden["pyramid_weights"])
    loss = pyramid(fake, real)
    torch.testing.assert_close(loss[0], golden["pyramid_loss"], rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(loss.mean(), fake)
    expected = golden["pyramid_grad"]
    assert (gradient - expected).norm() < 1e-4 * expected.norm()
    (swapped,) = torch.autograd.grad(pyramid(real, fake).mean() * -1, fake)
    assert (swapped - expected).norm() > expected.norm()


def test_pyramid_of_constant_pictures() -> None:
    fake, real = torch.full((2, 3, 64, 64), 0.25), torch.zeros(2, 3, 64, 64)
    real[1] = -0.25
    torch.testing.assert_close(10 * pyramid(fake, real), 2.473958 * torch.tensor([0.25, 0.5]), rtol=1e-6, atol=0)


def test_pyramid_levels_halve_from_512_to_16_and_weigh_the_same_by_choice() -> None:
    fake = torch.zeros(1, 3, 512, 512)
    fake[:, :, 256, 256] = 1  # the blur keeps its mass, and every second pixel of a blurred picture has half of it
    levels = torch.stack(pyramid_levels(fake, torch.zeros_like(fake)))[:, 0]
    masses = levels * torch.tensor([512, 256, 128, 64, 32, 16]).square()
    assert masses.tolist() == pytest.approx([4.0**-level for level in range(6)], rel=1e-5)
    even = pyramid(fake, torch.zeros_like(fake), weights=(1.0,) * 6)
    torch.testing.assert_close(even[0], levels.mean())


def test_least_squares_is_the_published_one() -> None:
    golden = load_golden("losses.npz")
    logits = golden["gan_pred"]
    real, fake = least_squares(logits, 1.0), least_squares(logits, 0.0)
    torch.testing.assert_close(real[0], golden["gan_lsgan_real"], rtol=1e-5, atol=0)
    torch.testing.assert_close(fake[0], golden["gan_lsgan_fake"], rtol=1e-5, atol=0)
    torch.testing.assert_close(real - fake, 1 - 2 * logits.mean()[None])  # which of the two is real, for all logits
    assert least_squares(torch.ones(1, 1, 2, 2), 1.0) < least_squares(torch.ones(1, 1, 2, 2), 0.0)


def test_cross_entropy_is_the_published_one() -> None:
    golden = load_golden("losses.npz")
    logits = golden["gan_pred"]
    real, fake = cross_entropy(logits, 1.0), cross_entropy(logits, 0.0)
    torch.testing.assert_close(real[0], golden["gan_vanilla_real"], rtol=1e-5, atol=0)
    torch.testing.assert_close(fake[0], golden["gan_vanilla_fake"], rtol=1e-5, atol=0)
    torch.testing.assert_close(real - fake, -logits.mean()[None])  # which of the two is real, for all logits
    assert cross_entropy(torch.ones(1, 1, 2, 2), 1.0) < cross_entropy(torch.ones(1, 1, 2, 2), 0.0)


@pytest.mark.parametrize("objective", OBJECTIVES.values())
def test_objectives_are_means_per_picture(objective: Callable[[Tensor, float], Tensor]) -> None:
    logits = torch.linspace(-2, 2, 2 * 9).view(2, 1, 3, 3)
    together = objective(logits, 1.0)
    assert together.shape == (2,)
    for row in range(2):
        torch.testing.assert_close(together[row], objective(logits[row : row + 1], 1.0)[0])


def test_octaves_are_the_published_ones() -> None:
    golden = load_golden("losses.npz")
    levels = torch.stack(octaves(golden["pyramid_fake"], golden["pyramid_real"]))[:, 0]
    torch.testing.assert_close(levels, golden["bci_pyramid_level_l1"], rtol=1e-5, atol=0)


def test_octaves_of_constant_pictures_add_up_to_a_hundred() -> None:
    fake, real = torch.full((1, 3, 64, 64), 0.25), torch.zeros(1, 3, 64, 64)
    total = 25 * torch.stack(octaves(fake, real)).sum()
    torch.testing.assert_close(total, torch.tensor(100 * 0.25), rtol=1e-6, atol=0)


def test_octaves_halve_from_512_to_64() -> None:
    fake = torch.zeros(1, 3, 512, 512)
    fake[:, :, 256, 256] = 1  # blurs keep its mass, and every second pixel of a picture that is smooth has a quarter
    levels = torch.stack(octaves(fake, torch.zeros_like(fake)))[:, 0]
    masses = levels * torch.tensor([512, 256, 128, 64]).square()
    assert masses.tolist() == pytest.approx([4.0**-level for level in range(4)], rel=1e-3)


def test_absolute_is_the_mean_per_picture() -> None:
    fake, real = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    assert absolute(fake, real).tolist() == [1.0, 2.0]


def test_a_rate_that_steps_before_an_epoch_decays_one_epoch_earlier_down_to_0() -> None:
    """As in the BCI repository: its scheduler steps at the start of an epoch."""
    after = [learning_rate_factor(epoch, CONSTANT, DECAY, RateStep.AFTER) for epoch in range(1, 42)]
    before = [learning_rate_factor(epoch, CONSTANT, DECAY, RateStep.BEFORE) for epoch in range(1, 41)]
    assert before == after[1:]
    assert before[28] == 1
    assert [before[29], before[39]] == pytest.approx([10 / 11, 0])


def test_learning_rate_is_the_published_one() -> None:
    golden = load_golden("losses.npz")["lr_per_epoch_30_10"]
    ours = [2e-4 * learning_rate_factor(epoch, CONSTANT, DECAY) for epoch in range(1, 41)]
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), golden, rtol=1e-12, atol=0)
    factors = [learning_rate_factor(epoch, CONSTANT, DECAY) for epoch in (30, 31, 35, 40)]
    assert factors == pytest.approx((1, 0.90909, 0.54545, 0.09091), abs=5e-6)


def test_heads_have_the_published_size_and_start() -> None:
    heads = ProjectionHeads((3, 128, 256, 256, 256), 256)
    assert sum(parameter.numel() for parameter in heads.parameters()) == 560_384
    weight = heads.get_parameter("heads.2.0.weight")
    assert weight.detach().std() == pytest.approx(
        0.02 * math.sqrt(2 / (256 + 256)), rel=0.02
    )  # Xavier normal, gain 0.02
    assert not heads.get_parameter("heads.2.0.bias").any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_heads_project_the_patches_at_the_positions(layout: torch.memory_format) -> None:
    heads = ProjectionHeads((3, 5), 8)
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)  # fresh heads give vectors so short that ASP's shift of 1e-7 is felt
    values = np.random.default_rng(0).standard_normal((2, 8, 6, 4)).astype(np.float32)
    features = [x.contiguous(memory_format=layout) for x in torch.split(torch.from_numpy(values), [3, 5], dim=1)]
    positions = [torch.tensor([0, 5, 23]), torch.tensor([7])]
    projected = heads(features, positions)
    assert [tuple(x.shape) for x in projected] == [(2, 3, 8), (2, 1, 8)]
    column = features[0][1, :, 5 // 4, 5 % 4]  # row-major
    torch.testing.assert_close(gather_patches(features[0], positions[0])[1, 1], column)
    expected = heads.get_submodule("heads.0")(column)
    expected = expected / (expected + 1e-7).norm()
    torch.testing.assert_close(projected[0][1, 1], expected)
    torch.testing.assert_close(projected[0].norm(dim=2), torch.ones(2, 3), rtol=0, atol=1e-4)


def test_heads_are_float32_under_autocast() -> None:
    heads = ProjectionHeads((4,), 8)
    features = [torch.from_numpy(np.random.default_rng(0).standard_normal((1, 4, 5, 5))).bfloat16()]
    positions = [torch.arange(25)]
    with torch.autocast("cpu", torch.bfloat16):
        (projected,) = heads(features, positions)
    (exact,) = heads([features[0].float()], positions)
    assert torch.equal(projected, exact)


def test_the_normalisation_of_a_zero_vector_has_a_finite_gradient() -> None:
    zeros = torch.zeros(2, 4, requires_grad=True)
    normalise(zeros).sum().backward()  # type: ignore[no-untyped-call]  # torch
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()
    assert not normalise(zeros).any()


def test_positions_are_different_cover_the_map_and_follow_the_generator() -> None:
    draw = [draw_positions((100, 16), 64, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert [len(ids) for ids in draw[0]] == [64, 16]
    for ids, side in zip(draw[0], (100, 16), strict=True):
        assert ids.dtype == torch.int64
        assert len(torch.unique(ids)) == len(ids)
        assert 0 <= ids.min() <= ids.max() < side
    assert all(torch.equal(first, second) for first, second in zip(draw[0], draw[1], strict=True))
    assert not torch.equal(draw[0][0], draw[2][0])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([draw_positions((100,), 4, generator)[0] for _ in range(500)])
    assert len(torch.unique(drawn)) == 100
