"""Spectral norm of all layers at once against that of one layer after the other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.support.kernels import (
    DEVICE,
    FORMATS,
    ROUNDING,
    count_interpreted,
    count_launches,
    draw,
    each_dtype,
    kernels,
)
from train.kernels import layer_table
from train.networks.compiling import run_eagerly
from train.networks.spectral_norm import SpectralConv2d, precomputed_weights

SIZES = (  # channels in and out, kernel, bias: rows and columns of one and of several blocks of every kernel
    (193, 35, 1, True),
    (3, 5, 7, False),
    (40, 3, 4, True),
    (1, 1, 3, True),
)
each_layout = pytest.mark.parametrize("layout", FORMATS, ids=("last", "contiguous"))


def spectral(convs: nn.Module) -> list[SpectralConv2d]:
    return [layer for layer in convs.modules() if isinstance(layer, SpectralConv2d)]


def build(layout: torch.memory_format) -> nn.ModuleList:
    """Layers whose parameters are all random."""
    convs = nn.ModuleList(SpectralConv2d(i, o, k, stride=1, padding=1, bias=b) for i, o, k, b in SIZES)
    for seed, tensor in enumerate(convs.state_dict().values()):
        tensor.copy_(0.2 * draw(*tensor.shape, seed=seed))
    for name, vector in convs.named_buffers():
        vector /= vector.norm()
        assert name.endswith(("weight_u", "weight_v"))
    return convs.to(DEVICE).to(memory_format=layout)


def one_by_one(convs: nn.ModuleList) -> list[Tensor]:
    return [x for layer in spectral(convs) for x in (layer.normalised_weight(), layer.bias) if x is not None]


def at_once(convs: nn.ModuleList, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    with kernels(), torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32), precomputed_weights(convs):
        filters = [layer.precomputed for layer in spectral(convs)]
    made = [x for used in filters if used is not None for x in used if x is not None]
    assert all("_Normalised" in str(x.grad_fn) for x in made)
    return made


def close(ours: Tensor | None, truth: Tensor | None, tolerance: float) -> None:
    assert ours is not None
    assert truth is not None
    atol = tolerance * float(truth.detach().abs().max())
    torch.testing.assert_close(ours, truth, rtol=0, atol=atol, check_dtype=False, check_stride=False)


@each_layout
def test_passes_before_one_backward_are_those_of_each_layer(layout: torch.memory_format) -> None:
    """Training and evaluation: weights, vectors and gradients, in the layout of the parameters."""
    plain = build(layout)
    fused = copy.deepcopy(plain)
    weighed: list[Tensor] = []
    for training in (True, False, True):
        truths, made = one_by_one(plain.train(training)), at_once(fused.train(training))
        upstream = [draw(*truth.shape, seed=20 + n + 50 * training) for n, truth in enumerate(truths)]
        weighed += [(g * x).sum() for xs in (made, truths) for g, x in zip(upstream, xs, strict=True)]
        for ours, truth in zip([*made, *fused.buffers()], [*truths, *plain.buffers()], strict=True):
            close(ours, truth, 1e-6)
        assert all(x.is_contiguous(memory_format=layout) for x in made if x.dim() == 4)
    torch.autograd.backward(torch.stack(weighed).sum())
    for ours, truth in zip(fused.parameters(), plain.parameters(), strict=True):
        close(ours.grad, truth.grad, 2e-6)


def test_frozen_layers_keep_their_vectors_beside_layers_that_iterate() -> None:
    """Both kinds through the kernels, each at once; a frozen layer gets no gradient."""
    plain = build(torch.channels_last)
    for place in (0, 2):
        plain[place].eval().requires_grad_(False)
    fused = copy.deepcopy(plain)
    before = copy.deepcopy(fused.state_dict())
    with kernels(), precomputed_weights(fused):
        filters = [layer.precomputed for layer in spectral(fused)]
    made = [x for used in filters if used is not None for x in used if x is not None]
    assert sum("_Normalised" in str(x.grad_fn) for x in made) == sum(x.requires_grad for x in made) == 3
    truths = one_by_one(plain)
    upstream = [draw(*truth.shape, seed=20 + n) for n, truth in enumerate(truths)]
    for outputs in (truths, made):
        torch.autograd.backward(torch.stack([(g * x).sum() for g, x in zip(upstream, outputs, strict=True)]).sum())
    for ours, truth in zip([*made, *fused.buffers()], [*truths, *plain.buffers()], strict=True):
        close(ours, truth, 1e-6)
    for name, parameter in fused.named_parameters():
        twin = plain.get_parameter(name)
        assert (parameter.grad is None) == (twin.grad is None) == name.startswith(("0.", "2."))
        if parameter.grad is not None:
            close(parameter.grad, twin.grad, 2e-6)
    for name, vector in fused.named_buffers():
        assert torch.equal(vector, before[name]) or not name.startswith(("0.", "2.")), name


@each_dtype
def test_a_pass_writes_the_dtype_of_convolutions_and_repeats_its_bits(dtype: torch.dtype) -> None:
    convs = build(torch.channels_last)
    before = copy.deepcopy(convs.state_dict())
    runs = []
    for _ in range(2):
        convs.load_state_dict(before)
        made = at_once(convs, dtype)
        assert {x.dtype for x in made} == {dtype}
        upstream = [draw(*x.shape, dtype=dtype, seed=20 + n) for n, x in enumerate(made)]
        gradients = torch.autograd.grad(made, list(convs.parameters()), upstream)
        runs.append((*made, *gradients, *(b.clone() for b in convs.buffers())))
    assert all(map(torch.equal, *runs))
    convs.load_state_dict(before)
    truths = one_by_one(convs)
    wanted = torch.autograd.grad(truths, list(convs.parameters()), [g.float() for g in upstream])
    for ours, truth in zip(made, truths, strict=True):
        rtol = 2 * ROUNDING[dtype]  # the interpreter cuts where a GPU rounds
        torch.testing.assert_close(ours, truth, rtol=rtol, atol=1e-7, check_dtype=False, check_stride=False)
    for ours, truth in zip(gradients, wanted, strict=True):
        assert ours.dtype == torch.float32
        close(ours, truth, 2e-6)  # the incoming gradient is exact in float32


def test_a_weight_that_nothing_uses_has_no_gradient() -> None:
    convs = build(torch.channels_last)
    made = at_once(convs)
    upstream = draw(*made[2].shape)
    torch.autograd.backward(made[2], upstream)
    plain = copy.deepcopy(convs).eval()
    torch.autograd.backward(one_by_one(plain)[2], upstream)
    assert [name for name, p in convs.named_parameters() if p.grad is not None] == ["1.weight_orig"]
    close(spectral(convs)[1].weight_orig.grad, spectral(plain)[1].weight_orig.grad, 2e-6)


def net(layers: int) -> nn.Sequential:
    convs = [SpectralConv2d(2, 2, 3, stride=1, padding=1, bias=True) for _ in range(layers)]
    return nn.Sequential(*convs).to(DEVICE).to(memory_format=torch.channels_last)


def run(network: nn.Sequential, picture: Tensor) -> Tensor:
    with kernels():
        made: Tensor = run_eagerly(network.forward, picture, [network])
    return made


@pytest.mark.skipif(DEVICE.type == "cuda", reason="counts interpreted kernels")
@pytest.mark.parametrize("layers", [1, 5])
def test_layers_take_few_kernels_however_many_they_are(layers: int) -> None:
    network, picture = net(layers), draw(1, 2, 5, 5)
    assert count_interpreted(lambda: run(network, picture)) == 3
    assert count_interpreted(lambda: torch.autograd.backward(run(network, picture).sum())) == 5
    network.eval()
    assert count_interpreted(lambda: run(network, picture)) == 2


def test_no_address_travels_to_the_device_after_the_first_pass_unless_a_parameter_has_moved() -> None:
    network, picture = net(2), draw(1, 2, 5, 5)
    plain = copy.deepcopy(network)
    for moved in (False, True):
        if moved:
            first_layer, second = spectral(network)
            second.weight_orig.data = second.weight_orig.detach().clone()
            first_layer.weight_u = first_layer.weight_u.clone()
        for first in (True, False):
            before = len(layer_table._tables)
            close(run(network, picture), plain(picture), 1e-6)
            assert len(layer_table._tables) == before + first


def test_layers_of_another_dtype_are_computed_one_by_one() -> None:
    network, picture = net(2).double(), draw(1, 2, 5, 5).double()
    assert torch.equal(run(copy.deepcopy(network), picture), network(picture))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
def test_a_recorded_pass_goes_on_with_the_vectors() -> None:
    """Two eager passes, then one recorded and replayed twice, against five eager ones; few kernels either way."""
    network, picture = net(5), draw(1, 2, 5, 5).contiguous(memory_format=torch.channels_last)
    twin = copy.deepcopy(network)
    assert count_launches(lambda: run_eagerly(lambda x: x, picture, [network])) == 3
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = run(network, picture)
    for _ in range(2):
        graph.replay()
    for _ in range(4):
        truth = run(twin, picture)
    torch.testing.assert_close(made, truth, rtol=0, atol=0)
    for ours, wanted in zip(network.buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, wanted)
