"""The fused norms, with what follows them, against PyTorch's layers one after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tests.support.kernels import DEVICE, agree, count_launches, draw, each_dtype, each_shape, kernels
from train.networks.layers import RELU, ResidualBlock, Stage, make_conv, make_doubling_conv, make_norm, run_blocks
from train.networks.norms import BatchNorm, InstanceNorm, add_norm, norm_then, without_gradient_of_flat
from train.settings import Norm

LEAKY = nn.LeakyReLU(0.2)
NONE = nn.Identity()
TOLERANCE = {torch.float32: 2**-18, torch.bfloat16: 2**-8}  # float32: a mean of ten deviations takes three bits
EXACT = 1e-5  # sums in float32
CASES = [  # shape, norm, activation, margin, dtype
    ((1, 1, 9, 6), InstanceNorm, RELU, 3, torch.bfloat16),
    ((3, 5, 7, 8), InstanceNorm, LEAKY, 1, torch.float32),
    ((3, 5, 7, 8), BatchNorm, RELU, 2, torch.bfloat16),
    ((3, 1, 5, 5), BatchNorm, NONE, 0, torch.float32),
    ((1, 193, 5, 4), InstanceNorm, NONE, 0, torch.bfloat16),
    ((1, 193, 5, 4), BatchNorm, RELU, 0, torch.float32),
    ((2, 16, 12, 11), InstanceNorm, RELU, 1, torch.float32),
]


class Then(nn.Module):
    """`norm_then` of parameters that are given."""

    def __init__(self, norm: nn.Module, activation: nn.Module, margin: int) -> None:
        super().__init__()
        self.norm, self.activation, self.margin = norm, activation, margin

    def forward(self, x: Tensor) -> Tensor:
        return norm_then(self.norm, x, None, self.activation, self.margin)


def make(layer: type[nn.Module], channels: int) -> nn.Module:
    return InstanceNorm(channels, affine=True) if layer is InstanceNorm else BatchNorm(channels)


def parameters(channels: int) -> tuple[Tensor, Tensor]:
    return 1 + 0.3 * draw(channels, seed=2), draw(channels, seed=3)


def of_parameters(module: nn.Module, norm: str = "norm.") -> Callable[..., Tensor]:
    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        made: Tensor = functional_call(module, {f"{norm}weight": weight, f"{norm}bias": bias}, (x,))
        return made

    return run


@pytest.mark.gpu
@pytest.mark.parametrize(("shape", "layer", "activation", "margin", "dtype"), CASES)
def test_norm_activation_and_padding_are_those_of_the_layers(
    shape: tuple[int, ...], layer: type[nn.Module], activation: nn.Module, margin: int, dtype: torch.dtype
) -> None:
    run = of_parameters(Then(make(layer, shape[1]).to(DEVICE), activation, margin))
    x = (2 * draw(*shape) + 20).to(dtype)
    agree(run, run, x, *parameters(shape[1]), tolerance=TOLERANCE[dtype], grad_fn="_NormBackward")


@pytest.mark.gpu
@pytest.mark.parametrize("layer", [InstanceNorm, BatchNorm])
@pytest.mark.parametrize("uses", [(0,), (1,), (0, 1)], ids=["sum", "padded", "both"])
def test_a_residual_sum_and_its_padding_have_the_gradients_of_the_layers(
    uses: tuple[int, ...], layer: type[nn.Module]
) -> None:
    norm = make(layer, 5).to(DEVICE).requires_grad_(False)

    def run(x: Tensor, residual: Tensor) -> Tensor:
        summed, padded = add_norm(residual, norm.to(x.dtype), x, margin=1)
        both = F.pad(summed, (1, 1, 1, 1)), padded
        return torch.cat([both[use] for use in uses], dim=1)

    agree(run, run, draw(2, 5, 6, 7), draw(2, 5, 6, 7, seed=1), tolerance=2**-19)


@pytest.mark.gpu
@pytest.mark.parametrize(("norm", "dropout"), [(Norm.INSTANCE, False), (Norm.INSTANCE, True), (Norm.BATCH, False)])
def test_fused_residual_blocks_are_blocks_one_after_the_other(norm: Norm, dropout: bool) -> None:
    blocks = [ResidualBlock(4, norm, spectral=False, dropout=dropout).to(DEVICE) for _ in range(2)]
    plain = copy.deepcopy(blocks)
    x = draw(2, 4, 6, 5).contiguous(memory_format=torch.channels_last).requires_grad_()

    def one_by_one(chain: list[ResidualBlock], x: Tensor) -> list[Tensor]:
        return [x := block(x) for block in chain]

    def outputs(chain: list[ResidualBlock], fused: bool) -> list[Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            made = list(run_blocks(nn.ModuleList(chain), x)) if fused else one_by_one(chain, x)
        weights = [conv.get_parameter("weight") for block in chain for conv in (block.first, block.second)]
        upstream = [draw(*one.shape, seed=seed) for seed, one in enumerate(made)]
        return [*made, *torch.autograd.grad(made, [x, *weights], upstream)]

    with kernels():
        ours = outputs(blocks, fused=True)
    for one, other in zip(ours, outputs(plain, fused=False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize(("norm", "activation"), [(Norm.INSTANCE, RELU), (Norm.BATCH, LEAKY), (Norm.NONE, LEAKY)])
def test_a_stage_leaves_the_bias_of_its_convolution_to_the_fused_kernel(
    norm: Norm, activation: nn.Module, spectral: bool
) -> None:
    conv = make_conv(3, 5, 3, spectral=spectral, padding=1)
    with torch.no_grad():
        conv.get_parameter("bias").copy_(draw(5))
    stage = Stage(conv, make_norm(norm, 5), activation).to(DEVICE).eval()
    stage.norm.train()
    x = draw(2, 3, 6, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    inputs, upstream = [x, *conv.parameters()], draw(2, 5, 6, 5, seed=1)
    with kernels():
        made = stage(x)
        ours = torch.autograd.grad(made, inputs, upstream)
    plain = activation(stage.norm(conv(x)))
    torch.testing.assert_close(made, plain, rtol=EXACT, atol=EXACT)
    for (name, parameter), one, other in zip(
        [("x", x), *conv.named_parameters()], ours, torch.autograd.grad(plain, inputs, upstream), strict=True
    ):
        assert one.shape == parameter.shape
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        if name == "bias" and norm is not Norm.NONE:
            assert not one.any()


@pytest.mark.gpu
def test_a_doubling_convolution_leaves_its_bias_too() -> None:
    conv = make_doubling_conv(3, 4, 3, bias=True).to(DEVICE)
    with torch.no_grad():
        conv.get_parameter("bias").copy_(draw(4))
    x = draw(1, 3, 3, 4)
    with kernels():
        made = Stage(conv, nn.Identity(), RELU)(x)
    torch.testing.assert_close(made, conv(x).relu())


@pytest.mark.gpu
@each_dtype
@each_shape
def test_bias_activation_and_padding_have_their_gradients(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    def run(x: Tensor, bias: Tensor) -> Tensor:
        return norm_then(nn.Identity(), x, bias, LEAKY, margin=2)

    agree(run, run, draw(*shape, dtype=dtype), draw(shape[1], seed=1), grad_fn="_ActivateBackward")


@pytest.mark.gpu
def test_a_bias_that_is_left_out_decides_with_the_map_whether_it_varies() -> None:
    x = 0.1 * draw(1, 2, 6, 6)
    with kernels():
        made = norm_then(InstanceNorm(2).to(DEVICE), x, torch.tensor([0.0, 100.0], device=DEVICE), NONE)
    assert made[0, 0].std() == pytest.approx(1, abs=0.02)
    assert not made[0, 1].any()


@pytest.mark.gpu
@pytest.mark.parametrize("layer", [InstanceNorm, BatchNorm])
def test_a_map_without_variance_becomes_the_bias_and_passes_no_gradient(layer: type[nn.Module]) -> None:
    run = of_parameters(make(layer, 4).to(DEVICE), "")
    x = draw(1, 4, 6, 8).bfloat16()
    x[:, 0], x[:, 1], x[:, 2] = 0.7, 0, -300.0
    inputs = [x.requires_grad_(), draw(4).requires_grad_(), torch.full((4,), 0.5, device=DEVICE).requires_grad_()]
    with kernels():
        made = run(*inputs)
        of_map, of_weight, of_bias = torch.autograd.grad(made, inputs, torch.ones_like(made))
    assert (made[:, :3] == 0.5).all()
    assert not of_map[:, :3].any()
    assert of_map[:, 3].isfinite().all()
    assert not of_weight[:3].any()
    assert torch.equal(of_bias, torch.full((4,), 48.0, device=DEVICE))


@pytest.mark.gpu
@pytest.mark.parametrize(("programs", "merged"), [(1, 512), (8, 512), (1024, 2)])
def test_statistics_of_many_chunks_do_not_cancel(programs: int, merged: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from train.kernels import statistics

    monkeypatch.setattr(statistics, "PROGRAMS", programs)
    monkeypatch.setattr(statistics, "MERGED_CHUNKS", merged)
    monkeypatch.setattr(statistics, "VALUES", 64)
    x = (draw(2, 3, 11, 17) + 100).contiguous(memory_format=torch.channels_last)
    for shared in (False, True):
        with kernels():
            mean, inverse, variance = statistics.statistics(x, 1e-5, shared=shared)
        exact = x.double().transpose(0, 1).flatten(1)[None] if shared else x.double().flatten(2)
        assert mean.shape == exact.shape[:2]
        torch.testing.assert_close(mean.double(), exact.mean(dim=2), rtol=1e-6, atol=0)
        torch.testing.assert_close(variance.double(), exact.var(dim=2), rtol=EXACT, atol=0)
        torch.testing.assert_close(
            inverse.double(), (exact.var(dim=2, correction=0) + 1e-5) ** -0.5, rtol=EXACT, atol=0
        )


@pytest.mark.gpu
def test_many_chunks_have_the_gradients_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from train.kernels import norm_gradients, statistics

    monkeypatch.setattr(statistics, "PROGRAMS", 6)
    monkeypatch.setattr(statistics, "VALUES", 32)
    monkeypatch.setattr(norm_gradients, "VALUES", 32)
    run = of_parameters(Then(make(InstanceNorm, 3).to(DEVICE), RELU, 2))
    agree(run, run, draw(2, 3, 9, 5) + 3, *parameters(3), tolerance=2**-18)


@pytest.mark.gpu
def test_gradients_of_scale_and_shift_are_not_rounded_to_bf16() -> None:
    run = of_parameters(make(InstanceNorm, 3).to(DEVICE), "")
    x, upstream = (2 * draw(2, 3, 9, 8) + 9).bfloat16(), draw(2, 3, 9, 8, seed=1).bfloat16()
    inputs = [one.requires_grad_() for one in parameters(3)]
    exact = torch.autograd.grad(run(x.double(), *(one.double() for one in inputs)), inputs, upstream.double())
    with kernels():
        ours = torch.autograd.grad(run(x, *inputs), inputs, upstream)
    torch.testing.assert_close(ours, exact, rtol=EXACT, atol=EXACT)


@pytest.mark.gpu
def test_batch_norm_keeps_the_statistics_that_pytorch_keeps() -> None:
    ours, plain = BatchNorm(3).to(DEVICE), nn.BatchNorm2d(3).to(DEVICE)
    for seed in range(2):
        x = 2 * draw(2, 3, 4, 5, seed=seed) + 1
        plain(x)
        with kernels():
            ours(x)
    for name, kept in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], kept)
    ours.eval()
    plain.eval()
    with kernels():
        torch.testing.assert_close(ours(x), plain(x))


def test_a_map_of_one_position_is_refused_and_a_batch_of_them_is_normalised_by_batch_norm() -> None:
    x = draw(2, 4, 1, 1)
    with kernels():
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            InstanceNorm(4).to(DEVICE)(x)
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            BatchNorm(4).to(DEVICE)(x[:1])
        made = BatchNorm(4).to(DEVICE)(x)
    torch.testing.assert_close(made, F.batch_norm(x, None, None, training=True), rtol=EXACT, atol=EXACT)


@pytest.mark.gpu
@each_dtype
def test_only_pictures_that_vary_pass_a_gradient(dtype: torch.dtype) -> None:
    pictures = torch.full((5, 3, 6, 7), 0.25, device=DEVICE)
    pictures[1] = draw(3, 6, 7)
    pictures[2, 2] += 0.01 * draw(6, 7)
    pictures[3] += 1e-4 * draw(3, 6, 7)
    pictures[4, 0, 0, 0] = float("nan")
    made = draw(5, 2, 3, 3, dtype=dtype).requires_grad_()
    upstream = draw(5, 2, 3, 3, dtype=dtype, seed=1)
    with kernels():
        passed = without_gradient_of_flat(pictures, made)
        (gradient,) = torch.autograd.grad(passed, made, upstream)
    assert torch.equal(passed, made)
    assert torch.equal(gradient, torch.autograd.grad(without_gradient_of_flat(pictures, made), made, upstream)[0])
    assert gradient.flatten(1).any(dim=1).tolist() == [False, True, True, False, True]


@pytest.mark.gpu
def test_of_norm_activation_and_padding_only_the_map_before_is_kept() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = draw(1, 4, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), kernels():
        made = norm_then(InstanceNorm(4).to(DEVICE), x, None, RELU, margin=1)
    assert made.shape == (1, 4, 10, 10)
    assert [tensor.data_ptr() for tensor in kept if tensor.numel() >= x.numel()] == [x.data_ptr()]


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
def test_a_norm_is_three_kernels_forward_and_three_backward() -> None:
    x, upstream = (
        draw(1, 64, side, side, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last) for side in (32, 34)
    )
    x.requires_grad_()
    norm = InstanceNorm(64).to(DEVICE)
    assert count_launches(lambda: norm_then(norm, x, None, RELU, margin=1)) == 3
    assert count_launches(lambda: torch.autograd.grad(norm_then(norm, x, None, RELU, margin=1), x, upstream)) == 6
