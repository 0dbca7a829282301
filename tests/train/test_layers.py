"""Blocks of the networks against explicit formulas, the classic hook and the published filters."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.kernels import launching
from train.networks.ammfi import AMMFI, ChannelAttention, SpatialAttention
from train.networks.layers import ResidualBlock, make_conv
from train.networks.norms import InstanceNorm
from train.networks.resampling import blur_down, blur_up, interleave, mirror, reflect_pad
from train.networks.spectral_norm import SpectralConv2d
from train.settings import AttentionSettings, Gate, Join, Norm, Order, Width

WAYS = [("cpu", False), *([("cuda", True), ("cuda", False)] if torch.cuda.is_available() else [])]  # device, fused
FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """New networks take their parameters from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def relative(value: Tensor, truth: Tensor) -> float:
    return float((value.detach().cpu().double() - truth.detach()).norm() / truth.detach().norm())


def explicit_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = (x - mean).square().mean(dim=(2, 3), keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]


@pytest.mark.gpu
@pytest.mark.parametrize(("device", "fused"), WAYS)
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.bfloat16, 3e-3)])
@pytest.mark.parametrize("batch", [1, 2])
def test_instance_norm_is_the_formula_with_its_gradients(
    batch: int,
    dtype: torch.dtype,
    tolerance: float,
    affine: bool,
    device: str,
    fused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch's kernel on a GPU rounds to bf16 what it sums for the scale, 2^-8 each: of the normalised map and of its
    product with the gradient. The fused kernel sums in float32."""
    monkeypatch.setattr(launching._switch, "fused", fused)
    of_parameters = 5e-6 if fused else 2**-7 if dtype is torch.bfloat16 and device != "cpu" else tolerance
    shape = (batch, 6, 33, 20)
    for layout, gradient_layout in itertools.product(FORMATS, FORMATS):
        picture = (2 * draw(*shape) + 9).to(dtype)  # a mean of 4.5 standard deviations
        incoming = draw(*shape, seed=1).to(dtype)
        norm = InstanceNorm(6, affine)
        with torch.no_grad():
            norm.weight.copy_(1 + 0.3 * draw(6, seed=2) if affine else torch.ones(6))
            norm.bias.copy_(draw(6, seed=3) if affine else torch.zeros(6))
        truth = [x.detach().double().requires_grad_() for x in (picture, norm.weight, norm.bias)]
        explicit = explicit_norm(*truth)
        explicit.backward(incoming.double())  # type: ignore[no-untyped-call]  # torch

        norm = norm.to(device)
        x = picture.to(device, memory_format=layout, copy=True).requires_grad_()
        y = norm(x)
        y.backward(incoming.to(device, memory_format=gradient_layout, copy=True))
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=torch.channels_last if fused else layout)
        assert relative(y, explicit) < tolerance
        assert x.grad is not None
        assert truth[0].grad is not None
        assert relative(x.grad, truth[0].grad) < tolerance
        for name, parameter in norm.named_parameters():
            expected = truth[["weight", "bias"].index(name) + 1].grad
            assert expected is not None
            assert parameter.grad is not None
            assert relative(parameter.grad, expected) < of_parameters


def test_instance_norm_under_autocast_takes_its_statistics_in_float32() -> None:
    picture = (draw(1, 4, 64, 64) + 10).bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        y = InstanceNorm(4)(picture)
    assert y.dtype == torch.bfloat16
    assert relative(y, explicit_norm(picture.double(), torch.ones(4), torch.zeros(4))) < 2e-3  # one rounding
    assert not InstanceNorm(4).state_dict()


def test_instance_norm_refuses_a_map_of_one_position() -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        InstanceNorm(4)(draw(1, 4, 1, 1))


def hooked(conv: SpectralConv2d) -> nn.Conv2d:
    """PyTorch's classic spectral norm with the same state."""
    plain = nn.Conv2d(3, 8, 3, padding=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        classic: nn.Conv2d = nn.utils.spectral_norm(plain)
    classic.load_state_dict(conv.state_dict())
    return classic


def test_spectral_norm_is_the_classic_hook_over_several_steps() -> None:
    ours = SpectralConv2d(3, 8, 3, stride=1, padding=1, bias=True)
    classic = hooked(ours)
    optimisers = [torch.optim.SGD(conv.parameters(), lr=0.1) for conv in (ours, classic)]
    for step in range(4):
        he, ihc = draw(1, 3, 9, 9, seed=step), draw(1, 3, 9, 9, seed=step + 10)
        for conv, optimiser in zip((ours, classic), optimisers, strict=True):
            optimiser.zero_grad()
            (conv(he).square().mean() + conv(ihc).abs().mean()).backward()  # two passes before one backward
            optimiser.step()
        for name, tensor in classic.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=0, atol=1e-6)
    before = ours.weight_u.clone()
    for conv in (ours, classic):
        conv.eval()
    torch.testing.assert_close(ours(he), classic(he), rtol=0, atol=1e-6)
    assert torch.equal(ours.weight_u, before)


def test_spectral_norm_iterates_v_before_u_from_unit_vectors() -> None:
    conv = SpectralConv2d(3, 8, 3, stride=1, padding=1, bias=True)
    matrix, u = conv.weight_orig.detach().flatten(1), conv.weight_u.clone()
    assert u.norm() == pytest.approx(1, abs=1e-6)
    assert conv.weight_v.norm() == pytest.approx(1, abs=1e-6)
    conv(draw(1, 3, 9, 9))
    v = F.normalize(matrix.t() @ u, dim=0)
    torch.testing.assert_close(conv.weight_v, v)
    torch.testing.assert_close(conv.weight_u, F.normalize(matrix @ v, dim=0))


def test_passes_write_spectral_vectors_in_place_and_each_backward_pass_sees_its_own() -> None:
    conv = SpectralConv2d(3, 8, 3, stride=1, padding=1, bias=True)
    places = conv.weight_u.data_ptr(), conv.weight_v.data_ptr()
    picture, gradients = draw(1, 3, 9, 9), []
    losses = []
    for training in (True, False, True, True):
        state = copy.deepcopy(conv)
        conv.train(training)
        losses.append(conv(picture).square().mean())
        state.train(training)(picture).square().mean().backward()
        assert state.weight_orig.grad is not None
        gradients.append(state.weight_orig.grad)
    assert (conv.weight_u.data_ptr(), conv.weight_v.data_ptr()) == places
    for loss, alone in zip(losses, gradients, strict=True):
        (gradient,) = torch.autograd.grad(loss, conv.weight_orig)
        assert torch.equal(gradient, alone)


def test_spectral_norm_reaches_the_largest_singular_value_in_float32_under_autocast() -> None:
    conv = SpectralConv2d(3, 8, 3, stride=1, padding=1, bias=True).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(100):
            y = conv(draw(1, 3, 9, 9))
    assert y.dtype == torch.bfloat16
    assert conv.weight_u.dtype == torch.float32
    sigma = torch.linalg.svdvals(conv.weight_orig.flatten(1))[0]
    weight = conv.weight_orig / sigma
    truth = F.conv2d(draw(1, 3, 9, 9).bfloat16(), weight.bfloat16(), padding=1)
    torch.testing.assert_close(y, truth, rtol=0, atol=2e-2)
    torch.testing.assert_close(conv.weight_u @ conv.weight_orig.flatten(1) @ conv.weight_v, sigma, rtol=1e-5, atol=0)


@pytest.mark.parametrize("spectral", [False, True])
def test_convolutions_start_with_default_weights_and_no_bias(spectral: bool) -> None:
    conv = make_conv(256, 256, 3, spectral=spectral)
    weight = conv.get_parameter("weight_orig" if spectral else "weight")
    assert weight.detach().std() == pytest.approx(1 / (3 * 256 * 9) ** 0.5, rel=0.01)  # 0.01203, as the published runs
    assert not conv.get_parameter("bias").any()


@pytest.mark.parametrize("sides", [(8, 8), (9, 14)])
def test_blur_down_is_the_published_filter(sides: tuple[int, int]) -> None:
    x = draw(2, 5, *sides)
    taps = torch.tensor([1.0, 2.0, 1.0])
    kernel = (taps[:, None] * taps / 16).expand(5, 1, 3, 3)
    published = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=5)
    assert blur_down(x).shape[2:] == tuple((side + 1) // 2 for side in sides)
    torch.testing.assert_close(blur_down(x), published, rtol=0, atol=5e-7)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", [31, 32])
def test_blur_down_has_the_gradient_of_its_formula_and_saves_nothing(
    side: int, dtype: torch.dtype, layout: torch.memory_format, device: torch.device
) -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = torch.randn(2, 8, side, side, dtype=dtype, device=device).contiguous(memory_format=layout).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        made = blur_down(x)
    assert kept == []
    plain = F.avg_pool2d(F.avg_pool2d(reflect_pad(x, 1), 2, stride=1), 2, stride=2)
    assert torch.equal(made, plain)
    for upstream in (torch.randn_like(made), torch.ones((), dtype=dtype, device=device).expand_as(made)):
        (ours,) = torch.autograd.grad(made, x, upstream, retain_graph=True)
        exact = x.detach().double().requires_grad_()
        formula = F.avg_pool2d(F.avg_pool2d(reflect_pad(exact, 1), 2, stride=1), 2, stride=2)
        (theirs,) = torch.autograd.grad(formula, exact, upstream.double())
        tolerance = 1e-6 if dtype is torch.float32 else 2**-7  # of bf16: two roundings
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)
        assert ours.is_contiguous(memory_format=layout)


def test_blur_up_is_the_published_filter() -> None:
    x = draw(2, 5, 7, 12)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (taps[:, None] * taps / 16).expand(5, 1, 4, 4)
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    published = F.conv_transpose2d(padded, kernel, stride=2, padding=3, groups=5)
    assert blur_up(x).shape == (2, 5, 14, 24)
    torch.testing.assert_close(blur_up(x), published, rtol=0, atol=1e-6)


def test_padding_and_blur_up_from_slices_are_the_same_with_their_gradients() -> None:
    """What is compiled for a GPU."""
    x, plain = (draw(2, 3, 5, 4).double().requires_grad_() for _ in range(2))
    for sliced, known in (
        (interleave, blur_up),
        (partial(mirror, margin=3), partial(reflect_pad, margin=3)),
    ):
        made, truth = sliced(x), known(plain)
        torch.testing.assert_close(made, truth)
        upstream = draw(*made.shape, seed=1).double()
        torch.testing.assert_close(torch.autograd.grad(made, x, upstream), torch.autograd.grad(truth, plain, upstream))


def test_blocks_keep_dtype_and_memory_format_under_autocast() -> None:
    x = draw(1, 8, 16, 16).bfloat16().contiguous(memory_format=torch.channels_last)
    block = ResidualBlock(8, Norm.INSTANCE, spectral=True).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        for y in (reflect_pad(x, 3), blur_down(x), blur_up(x), block(x)):
            assert y.dtype == torch.bfloat16
            assert y.is_contiguous(memory_format=torch.channels_last)


def test_residual_block_is_its_formula() -> None:
    block = ResidualBlock(4, Norm.INSTANCE, spectral=False)
    x = draw(1, 4, 10, 10)
    ones, zeros = torch.ones(4), torch.zeros(4)

    def half(name: str, y: Tensor) -> Tensor:
        weight = block.get_submodule(name).get_parameter("weight")
        return explicit_norm(F.conv2d(F.pad(y, (1, 1, 1, 1), mode="reflect"), weight), ones, zeros)

    torch.testing.assert_close(block(x), x + half("second", half("first", x).relu()))


def test_channel_attention_is_cbam() -> None:
    attention = ChannelAttention(32, 16)
    x = draw(2, 32, 5, 7)
    first, second = attention.perceptron[0], attention.perceptron[2]
    logits = sum(second(first(pooled).relu()) for pooled in (x.mean(dim=(2, 3)), x.flatten(2).max(dim=2).values))
    torch.testing.assert_close(attention(x), torch.sigmoid(logits)[:, :, None, None])
    assert first.weight.shape == (2, 32)


def test_spatial_attention_is_cbam() -> None:
    attention = SpatialAttention(7)
    x = draw(2, 6, 9, 8)
    pooled = torch.stack((x.max(dim=1).values, x.mean(dim=1)), dim=1)
    torch.testing.assert_close(attention(x), torch.sigmoid(F.conv2d(pooled, attention.conv.weight, padding=3)))


def test_ammfi_is_equations_1_to_3() -> None:
    module = AMMFI(8, AttentionSettings(reduction=4))
    encoded, decoded = draw(1, 8, 6, 6), draw(1, 8, 6, 6, seed=1)
    projected = torch.cat((module.encoder_projection(encoded), module.decoder_projection(decoded)), dim=1)  # eq. (1)
    weighted = module.channel_attention(projected) * projected  # eq. (2)
    focused = module.spatial_attention(weighted) * weighted  # eq. (3)
    gate = torch.sigmoid(module.gate_conv(focused))
    joined, given = module(encoded, decoded)
    torch.testing.assert_close(given, gate)
    torch.testing.assert_close(joined, torch.cat((decoded, gate * encoded), dim=1))
    assert projected.shape == gate.shape == (1, 8, 6, 6)
    swapped, _ = module(decoded, encoded)
    assert not torch.allclose(swapped, joined, atol=1e-2)


@pytest.mark.parametrize(
    ("settings", "gates", "joined"),
    [
        (AttentionSettings(gate=Gate.SINGLE), 1, 16),
        (AttentionSettings(join=Join.ADD), 8, 8),
        (AttentionSettings(join=Join.MULTIPLY), 8, 8),
        (AttentionSettings(width=Width.FULL, kernel=1), 8, 16),
        (AttentionSettings(spectral=True, norm=Norm.NONE, relu=True), 8, 16),
        (AttentionSettings(norm=Norm.BATCH, spatial_kernel=3), 8, 16),
    ],
)
def test_ammfi_alternatives_have_their_shapes(settings: AttentionSettings, gates: int, joined: int) -> None:
    module = AMMFI(8, settings)
    encoded, decoded = draw(2, 8, 6, 6), draw(2, 8, 6, 6, seed=1)
    feature, gate = module(encoded, decoded)
    assert gate.shape == (2, gates, 6, 6)
    assert feature.shape == (2, joined, 6, 6)
    assert 0 < gate.min() < gate.max() < 1
    if joined == 8:
        expected = decoded + gate * encoded if settings.join is Join.ADD else decoded * (gate * encoded)
        torch.testing.assert_close(feature, expected)


def test_ammfi_in_the_order_twice_attends_to_twice_weighted_features() -> None:
    module = AMMFI(8, AttentionSettings(order=Order.TWICE))
    encoded, decoded = draw(1, 8, 6, 6), draw(1, 8, 6, 6, seed=1)
    weighted = module.weigh_channels(module.project(encoded, decoded))
    again = module.channel_attention(weighted) * weighted
    focused = module.spatial_attention(again) * weighted
    _, gate = module(encoded, decoded)
    torch.testing.assert_close(gate, torch.sigmoid(module.gate_conv(focused)))
    module.twice = False
    assert not torch.allclose(module(encoded, decoded)[1], gate, atol=1e-5)


def test_ammfi_with_relu_projects_to_positive_features() -> None:
    encoded, decoded = draw(1, 8, 6, 6), draw(1, 8, 6, 6, seed=1)
    assert AMMFI(8, AttentionSettings(relu=True)).project(encoded, decoded).min() == 0
    assert AMMFI(8, AttentionSettings()).project(encoded, decoded).min() < 0


def test_batch_norm_in_ammfi_is_instance_norm_at_batch_1_in_training() -> None:
    instance, batch = AMMFI(8, AttentionSettings()), AMMFI(8, AttentionSettings(norm=Norm.BATCH))
    batch.load_state_dict(instance.state_dict(), strict=False)
    encoded, decoded = draw(1, 8, 6, 6), draw(1, 8, 6, 6, seed=1)
    torch.testing.assert_close(batch(encoded, decoded), instance(encoded, decoded))
